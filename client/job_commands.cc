// jobs, status, watch, cancel, pause, resume, retry: asking about jobs and steering them.
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "client/job_text.h"
#include "client/session.h"
#include "client/text.h"
#include "client/watch_job.h"

namespace nsic {
namespace {

using JobMethod = grpc::Status (v1::Jobs::Stub::*)(grpc::ClientContext*, const v1::JobId&, v1::Job*);

// Connects to where the job is. Not OK: already printed, `*exit` holds the code.
bool ConnectToJob(Session* session, Session::Need need, const std::string& job_id, int* exit) {
  if (!IsJobId(job_id)) {
    *exit = session->FailUsage(InvalidArgumentError("'" + job_id + "' is no job id: nsic-client jobs lists them"));
    return false;
  }
  const Result<std::string> state_folder = StateFolder();
  Result<JobPlace> place = state_folder.ok() ? FindJobPlace(*state_folder, job_id) : Result<JobPlace>(state_folder.status());
  std::optional<JobPlace> known;
  if (place.ok()) known = *std::move(place);
  const Status status = session->Connect(need, known);
  if (!status.ok()) *exit = session->Fail(status);
  return status.ok();
}

int RunJobs(Session* session) {
  Status status = session->Connect(Session::Need::kLook);
  if (!status.ok()) return session->Fail(status);
  const Result<std::vector<v1::Job>> jobs = session->farm().ListJobs(session->cancel());
  if (!jobs.ok()) return session->Fail(jobs.status());
  if (session->options.json) {
    nlohmann::json list = nlohmann::json::array();
    for (const v1::Job& job : *jobs) list.push_back(JobToJson(job));
    session->PrintJson(nlohmann::json({{"jobs", std::move(list)}}).dump(2));
    return kExitDone;
  }
  if (jobs->empty()) {
    session->Print("no jobs\n");
    return kExitDone;
  }
  std::vector<std::vector<std::string>> rows = {{"JOB", "NAME", "STATE", "DONE", "FAILED", "MODEL", "CREATED"}};
  for (const v1::Job& job : *jobs) {
    const int64_t tasks =
        job.tasks_waiting() + job.tasks_queued() + job.tasks_leased() + job.tasks_done() + job.tasks_failed() + job.tasks_cancelled();
    rows.push_back({job.job_id(), job.spec().name(),
                    job.paused() && job.state() == v1::JOB_STATE_RUNNING ? "paused" : JobStateName(job.state()),
                    std::to_string(job.tasks_done()) + "/" + std::to_string(tasks), std::to_string(job.tasks_failed()),
                    job.spec().options().model_name(), FormatTime(job.created_ms())});
  }
  session->Print(FormatTable(rows));
  return kExitDone;
}

// status, and the commands that change a job and show what it is then.
int RunOnJob(Session* session, JobMethod method, const std::string& job_id, const std::string& afterwards) {
  int exit = kExitDone;
  if (!ConnectToJob(session, Session::Need::kLook, job_id, &exit)) return exit;
  const Result<v1::Job> job = session->farm().ChangeJob(method, job_id, session->cancel());
  if (!job.ok()) return session->Fail(job.status());
  if (session->options.json) {
    session->PrintJson(JobToJson(*job).dump(2));
  } else {
    session->Print(DescribeJob(*job));
    // A local farm works only while a client waits for it.
    if (session->is_local() && job->state() == v1::JOB_STATE_RUNNING && !afterwards.empty()) {
      session->Print("nsic-client fetch " + job_id + " " + afterwards + "\n");
    }
  }
  return kExitDone;
}

int RunWatch(Session* session, const std::string& job_id) {
  int exit = kExitDone;
  if (!ConnectToJob(session, Session::Need::kRestore, job_id, &exit)) return exit;
  if (session->local_farm() != nullptr) session->local_farm()->StartWorker();
  v1::Job last;
  WatchHooks hooks;
  hooks.event = [&](const v1::JobEvent& event) {
    last = event.job();
    ProgressState shown;
    shown.activity = last.paused() ? "paused" : "restoring";
    shown.noun = "task";
    shown.files =
        last.tasks_waiting() + last.tasks_queued() + last.tasks_leased() + last.tasks_done() + last.tasks_failed() + last.tasks_cancelled();
    shown.files_done = last.tasks_done();
    shown.files_failed = last.tasks_failed();
    shown.units_total = static_cast<double>(last.pixels_total()) * 1e-6;
    shown.units_done = static_cast<double>(last.pixels_done()) * 1e-6;
    shown.unit = "MP";
    if (last.tasks_leased() == 0) shown.remark = last.waiting_reason();
    session->progress().Update(shown);
    for (const v1::TaskOutcome& outcome : event.outcomes()) {
      if (outcome.end() == v1::TASK_END_FAILED) session->progress().Notice("failed: " + ForTerminal(outcome.error()));
    }
  };
  hooks.connection = [&](const Status& why) {
    session->progress().Notice(why.ok() ? "the coordinator is back"
                                        : "the coordinator at " + session->farm().name() + " went away (" + ForTerminal(why.message()) +
                                              "): trying until it is back; Ctrl-C stops the wait");
  };
  const Status status = WatchJob(&session->farm(), job_id, 0, hooks, session->cancel());
  session->progress().Clear();
  if (!status.ok()) return session->Fail(status);
  if (session->options.json) {
    session->PrintJson(JobToJson(last).dump(2));
  } else {
    session->Print(DescribeJob(last));
  }
  return last.state() == v1::JOB_STATE_SUCCEEDED ? kExitDone : kExitSomeFailed;
}

}  // namespace

void AddJobCommands(CLI::App* app, Session* session) {
  app->add_subcommand("jobs", "List the farm's jobs, newest first")->callback([session] {
    session->command = [session] { return RunJobs(session); };
  });

  const auto add = [app](const std::string& name, const std::string& help, std::function<void(const std::string&)> chosen) {
    auto job_id = std::make_shared<std::string>();
    CLI::App* command = app->add_subcommand(name, help);
    command->add_option("job", *job_id, "Job id")->required()->type_name("JOB");
    command->callback([job_id, chosen = std::move(chosen)] { chosen(*job_id); });
  };
  add("watch", "Follow a job until it has ended",
      [session](const std::string& job_id) { session->command = [session, job_id] { return RunWatch(session, job_id); }; });
  const auto add_change = [&](const std::string& name, const std::string& help, JobMethod method, const std::string& afterwards) {
    add(name, help, [session, method, afterwards](const std::string& job_id) {
      session->command = [session, method, job_id, afterwards] { return RunOnJob(session, method, job_id, afterwards); };
    });
  };
  add_change("status", "Show how a job stands", &v1::Jobs::Stub::Get, "goes on with it");
  add_change("cancel", "End a job; what is done stays done", &v1::Jobs::Stub::Cancel, "");
  add_change("pause", "Give out no more of a job's tasks", &v1::Jobs::Stub::Pause, "");
  add_change("resume", "Go on with a paused job", &v1::Jobs::Stub::Resume, "goes on with it");
  add_change("retry", "Try a job's failed tasks again", &v1::Jobs::Stub::Retry, "tries them");
}

}  // namespace nsic
