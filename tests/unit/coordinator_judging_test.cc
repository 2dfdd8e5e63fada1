// Scorers and recommenders in the farm: what a job is told of them, what results may say, and what is kept.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "coordinator/db/jobs.h"
#include "coordinator/find_judges.h"
#include "coordinator/register_models.h"
#include "coordinator/split_job.h"
#include "tests/unit/coordinator_fixture.h"

namespace nsic {
namespace {

class JudgingTest : public FarmTest {
 protected:
  std::string AddPack(const std::string& name, ModelTask task, const std::string& task_name, int scale = 1) {
    ModelPack pack;
    pack.card.name = name;
    pack.card.task = task;
    pack.card.architecture = "identity";
    pack.card.tiling.tile = 256;
    pack.card.scale = scale;
    pack.card.licence = "CC0-1.0";
    if (task == ModelTask::kClassify) {
      pack.card.labels = {"photograph-clean", "photograph-light", "drawing-heavy"};
      pack.card.recommends = {{"photograph-light", "lite"}, {"drawing-heavy", "heavy"}};
    }
    Result<std::string> bundle = blobs_->Put("bundle of " + name);
    EXPECT_TRUE(bundle.ok()) << bundle.status();
    pack.card.weights_sha256 = *bundle;
    const std::string id = PackIdentity(pack.card);
    Write([&](Transaction& t) {
      InsertModel(t, {id, name, task_name, SerializeModelCard(pack.card), *bundle, 0, false});
      return OkStatus();
    });
    return id;
  }
  std::string AddScorer() { return AddPack(kScorerName, ModelTask::kScore, "score"); }
  std::string AddRecommender() { return AddPack(kRecommenderName, ModelTask::kClassify, "classify"); }

  v1::SubmitRequest AutoRequest(int job, const std::vector<v1::SourceFile>& files, const std::string& recommender) {
    v1::SubmitRequest request = Request(job, files);
    request.mutable_spec()->mutable_options()->set_auto_model(true);
    request.mutable_spec()->mutable_options()->set_model_id(recommender);
    return request;
  }
  // A good result of `task`, with these scores where they are not negative.
  v1::CompletedItem Item(const v1::LeasedTask& task, double before = -1, double after = -1) {
    v1::CompletedItem item;
    item.set_token(task.token());
    const std::string bytes = "output " + task.token();
    Result<std::string> sha256 = blobs_->Put(bytes);
    EXPECT_TRUE(sha256.ok()) << sha256.status();
    v1::TaskResult& result = *item.mutable_result();
    result.mutable_output()->set_sha256(*sha256);
    result.mutable_output()->set_size(static_cast<int64_t>(bytes.size()));
    result.set_width(10);
    result.set_height(10);
    result.set_model_id(task.options().model_id());
    result.set_frames(task.segment().frames().count());
    if (before < 0) return item;
    result.mutable_scores()->set_before(before);
    result.mutable_scores()->set_after(after);
    return item;
  }
};

TEST_F(JudgingTest, AJobIsToldWhatTheFarmJudgesWith) {
  Upload(1);
  v1::SubmitRequest forged = Request(1, {Source(1)});
  forged.mutable_spec()->mutable_options()->mutable_scorer()->set_model_id("from the client");
  forged.mutable_spec()->mutable_options()->add_candidates()->set_label("from the client");
  ASSERT_TRUE(AcceptSubmit(farm_, forged).ok());
  EXPECT_FALSE(Get(1).spec().options().has_scorer()) << "there is none";
  EXPECT_FALSE(Get(1).spec().options().has_recommender());
  EXPECT_EQ(Get(1).spec().options().candidates_size(), 0);

  const std::string scorer = AddScorer();
  const std::string recommender = AddRecommender();
  v1::SubmitRequest request = Request(2, {Source(1)});
  ASSERT_TRUE(AcceptSubmit(farm_, request).ok());
  const v1::RestoreOptions options = Get(2).spec().options();
  EXPECT_EQ(options.scorer().model_id(), scorer);
  EXPECT_EQ(options.scorer().blob(), Sha256Hex("bundle of " + std::string(kScorerName)));
  EXPECT_GT(options.scorer().blob_size(), 0);
  EXPECT_EQ(options.recommender().model_id(), recommender);
  ASSERT_EQ(options.candidates_size(), 2) << "names for the report, of packs that the farm lacks, too";
  EXPECT_EQ(options.candidates(0).pack().name(), "heavy");
  EXPECT_EQ(options.candidates(0).pack().model_id(), "");
  EXPECT_TRUE(AcceptSubmit(farm_, request).ok()) << "the same again";
}

TEST_F(JudgingTest, AutoNeedsAllThatItMayChoose) {
  const std::string recommender = AddRecommender();
  Upload(1);
  Status refused = AcceptSubmit(farm_, AutoRequest(1, {Source(1)}, recommender)).status();
  EXPECT_EQ(refused.code(), StatusCode::kFailedPrecondition);
  EXPECT_NE(refused.message().find("the model heavy for pictures of the kind 'drawing-heavy'"), std::string::npos) << refused;
  EXPECT_NE(refused.message().find("--model"), std::string::npos) << refused;

  const std::string doubles = AddPack("heavy", ModelTask::kEnhance, "enhance", 2);
  refused = AcceptSubmit(farm_, AutoRequest(1, {Source(1)}, recommender)).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument) << refused;
  ASSERT_TRUE(RemoveModel(farm_, doubles).ok());

  const std::string heavy = AddPack("heavy", ModelTask::kEnhance, "enhance");
  ASSERT_TRUE(AcceptSubmit(farm_, AutoRequest(1, {Source(1)}, recommender)).ok());
  const v1::RestoreOptions options = Get(1).spec().options();
  ASSERT_EQ(options.candidates_size(), 2);
  EXPECT_EQ(options.candidates(0).label(), "drawing-heavy");
  EXPECT_EQ(options.candidates(0).pack().model_id(), heavy);
  EXPECT_EQ(options.candidates(1).pack().model_id(), model_id_);
  for (const std::string& needed : {recommender, heavy, model_id_}) {
    EXPECT_EQ(RemoveModel(farm_, needed).code(), StatusCode::kFailedPrecondition) << needed;
  }
  ASSERT_TRUE(CancelJob(farm_, Id(1)).ok());
  EXPECT_TRUE(RemoveModel(farm_, heavy).ok()) << "no job needs it any more";

  EXPECT_EQ(AcceptSubmit(farm_, AutoRequest(2, {Source(1)}, model_id_)).status().code(), StatusCode::kInvalidArgument);
  v1::SubmitRequest not_auto = Request(3, {Source(1)});
  not_auto.mutable_spec()->mutable_options()->set_model_id(recommender);
  EXPECT_EQ(AcceptSubmit(farm_, not_auto).status().code(), StatusCode::kInvalidArgument);
}

TEST_F(JudgingTest, AResultNamesTheModelThatWasRecommended) {
  const std::string recommender = AddRecommender();
  const std::string heavy = AddPack("heavy", ModelTask::kEnhance, "enhance");
  Upload(1);
  ASSERT_TRUE(AcceptSubmit(farm_, AutoRequest(1, {Source(1)}, recommender)).ok());
  const std::string w = Register("w");
  const v1::LeasedTask task = Lease(w).at(0);
  EXPECT_EQ(task.options().candidates_size(), 2);
  EXPECT_EQ(task.model_blob(), Sha256Hex("bundle of " + std::string(kRecommenderName)));
  const struct {
    const char* name;
    std::string label, model;
    double probability;
    bool good;
  } kRows[] = {
      {"nothing said", "", recommender, 0, false},
      {"another model", "drawing-heavy", model_id_, 0.9, false},
      {"a model for nothing", "photograph-clean", heavy, 0.9, false},
      {"no model", "drawing-heavy", "", 0.9, false},
      {"no probability", "drawing-heavy", heavy, 1.5, false},
      {"good", "drawing-heavy", heavy, 0.9, true},
  };
  for (const auto& row : kRows) {
    v1::CompletedItem item = Item(task);
    item.mutable_result()->set_model_id(row.model);
    item.mutable_result()->mutable_recommendation()->set_label(row.label);
    item.mutable_result()->mutable_recommendation()->set_probability(row.probability);
    const v1::ItemStatus status = Complete(w, item);
    EXPECT_EQ(status.code() == 0, row.good) << row.name << ": " << status.message();
  }
  EXPECT_EQ(Outcomes(1).at(0).result().recommendation().label(), "drawing-heavy");

  // What is clean passes without a model.
  Upload(2);
  ASSERT_TRUE(AcceptSubmit(farm_, AutoRequest(2, {Source(2)}, recommender)).ok());
  v1::CompletedItem clean = Item(Lease(w).at(0));
  clean.mutable_result()->set_model_id("");
  clean.mutable_result()->mutable_recommendation()->set_label("photograph-clean");
  EXPECT_EQ(Complete(w, clean).code(), 0);
}

TEST_F(JudgingTest, TheChoiceIsPartOfTheKeyAndScoringIsNot) {
  v1::JobManifest manifest;
  *manifest.add_files() = Source(1, 3000, 3000);
  *manifest.add_files() = Source(2);
  *manifest.add_files() = Video(3, 100);
  VideoIndex index;
  for (int frame = 0; frame < 100; ++frame) index.pts.push_back(frame * 40);
  index.key_frames = {{0, 0}};
  v1::RestoreOptions options = Request(1, manifest).spec().options();
  options.set_split_pixels(4'000'000);
  const auto keys = [&](const v1::RestoreOptions& of) {
    const Result<std::vector<PlannedTask>> plan = SplitJob(manifest, of, TileSpec{}, "1", 1.0, [&](int) { return index; });
    EXPECT_TRUE(plan.ok()) << plan.status();
    std::vector<std::string> all;
    for (const PlannedTask& task : *plan) all.push_back(task.result_key);
    return all;
  };
  v1::RestoreOptions scored = options;
  scored.mutable_scorer()->set_model_id("scorer");
  scored.mutable_recommender()->set_model_id("recommender");
  scored.set_score_every(7);
  v1::Candidate* named = scored.add_candidates();
  named->set_label("mosaic");
  named->mutable_pack()->set_name("ritsuka-lite");
  EXPECT_EQ(keys(options), keys(scored));

  v1::RestoreOptions chosen = scored;
  chosen.set_auto_model(true);
  chosen.mutable_candidates(0)->mutable_pack()->set_model_id("one");
  v1::RestoreOptions other = chosen;
  other.mutable_candidates(0)->mutable_pack()->set_model_id("two");
  v1::RestoreOptions moved = chosen;
  moved.mutable_candidates(0)->mutable_pack()->set_blob("elsewhere");
  EXPECT_EQ(keys(chosen), keys(moved));
  const std::vector<std::string> of_chosen = keys(chosen), of_other = keys(other), of_named = keys(scored);
  for (size_t i = 0; i < of_chosen.size(); ++i) {
    EXPECT_NE(of_chosen[i], of_other[i]) << i;
    EXPECT_NE(of_chosen[i], of_named[i]) << i;
  }
}

TEST_F(JudgingTest, AJobKnowsItsMeanScores) {
  AddScorer();
  // One picture of four megapixels in tiles, and one whole: each counts for one.
  std::vector<v1::SourceFile> files = {Source(1, 2000, 2000), Source(2)};
  Upload(1);
  Upload(2);
  v1::SubmitRequest request = Request(1, files);
  request.mutable_spec()->mutable_options()->set_split_pixels(1'500'000);
  ASSERT_TRUE(AcceptSubmit(farm_, request).ok());
  EXPECT_FALSE(Get(1).has_scores());
  const std::string w = Register("w");
  double tiles = 0;
  for (int i = 0; i < 20; ++i) {
    const std::vector<v1::LeasedTask> tasks = Lease(w);
    if (tasks.empty()) break;
    const v1::LeasedTask& task = tasks.front();
    if (task.has_region()) tiles += static_cast<double>(task.region().width()) * task.region().height();
    const v1::CompletedItem item = task.has_region() ? Item(task, 40, 80) : Item(task, 60, 70);
    EXPECT_EQ(Complete(w, item).code(), 0);
    EXPECT_EQ(Complete(w, item).code(), 0) << "the same again";
  }
  EXPECT_EQ(tiles, 4e6);
  const v1::Job job = Get(1);
  ASSERT_TRUE(job.has_scores());
  EXPECT_NEAR(job.scores().files(), 2, 1e-9);
  EXPECT_NEAR(job.scores().before(), 50, 1e-9);
  EXPECT_NEAR(job.scores().after(), 75, 1e-9);

  // A job that takes these results has their scores, too.
  request.set_job_id(Id(2));
  ASSERT_TRUE(AcceptSubmit(farm_, request).ok());
  EXPECT_EQ(Get(2).state(), v1::JOB_STATE_SUCCEEDED);
  EXPECT_NEAR(Get(2).scores().after(), 75, 1e-9);
  EXPECT_EQ(Outcomes(2).at(0).result().scores().after(), 80);
}

TEST_F(JudgingTest, ScoresOutsideTheirRangeAreRefused) {
  Submit(1, 1, 1);
  const std::string w = Register("w");
  const v1::LeasedTask task = Lease(w).at(0);
  for (const auto& [before, after] : {std::pair(50.0, 101.0), std::pair(50.0, -1.0), std::pair(50.0, std::nan(""))}) {
    EXPECT_EQ(Complete(w, Item(task, before, after)).code(), static_cast<int>(StatusCode::kInvalidArgument)) << after;
  }
  v1::CompletedItem frames = Item(task, 50, 60);
  frames.mutable_result()->mutable_scores()->add_frames();
  EXPECT_EQ(Complete(w, frames).code(), static_cast<int>(StatusCode::kInvalidArgument)) << "a picture has no frames";
  EXPECT_EQ(Complete(w, Item(task, 50, 60)).code(), 0);
}

TEST_F(JudgingTest, ASegmentInChunksHasTheScoresOfItsChunks) {
  AddScorer();
  const std::string recommender = AddRecommender();
  const std::string heavy = AddPack("heavy", ModelTask::kEnhance, "enhance");
  const v1::SourceFile video = Video(1, 50, 50, 4000, 4000);
  Upload(1);
  ASSERT_TRUE(AcceptSubmit(farm_, AutoRequest(1, {video}, recommender)).ok());
  const std::string w = Register("w");
  // Slow enough that a segment is cut into chunks: an identity network is quick, so that the plan is made for a measured speed.
  ASSERT_TRUE(CancelJob(farm_, Id(1)).ok());
  Write([&](Transaction& t) -> Status {
    NSIC_ASSIGN_OR_RETURN(const WorkerRow worker, CheckSession(farm_, t, w));
    PutSpeed(t, worker.id, recommender, 0.5, "fp32");
    return OkStatus();
  });
  ASSERT_TRUE(AcceptSubmit(farm_, AutoRequest(2, {video}, recommender)).ok());
  int chunks = 0;
  while (true) {
    const std::vector<v1::LeasedTask> tasks = Lease(w);
    if (tasks.empty()) break;
    const v1::LeasedTask& task = tasks.front();
    v1::CompletedItem item = Item(task);
    v1::TaskResult& result = *item.mutable_result();
    if (task.segment().step() == v1::SEGMENT_STEP_RESTORE) {
      ++chunks;
      const int first = task.segment().frames().first();
      result.set_model_id(heavy);
      result.mutable_recommendation()->set_label("drawing-heavy");
      if (first == 0) {
        v1::FrameScore* const frame = result.mutable_scores()->add_frames();
        frame->set_frame(first);
        frame->set_before(30);
        frame->set_after(60);
        result.mutable_scores()->set_before(30);
        result.mutable_scores()->set_after(60);
      }
    } else {
      EXPECT_EQ(task.segment().step(), v1::SEGMENT_STEP_ENCODE);
    }
    const v1::ItemStatus status = Complete(w, item);
    ASSERT_EQ(status.code(), 0) << status.message();
  }
  EXPECT_GT(chunks, 1);
  ASSERT_EQ(Outcomes(2).size(), 1u);
  const v1::TaskResult result = Outcomes(2).at(0).result();
  EXPECT_EQ(result.model_id(), heavy);
  EXPECT_EQ(result.recommendation().label(), "drawing-heavy");
  ASSERT_EQ(result.scores().frames_size(), 1);
  EXPECT_EQ(result.scores().after(), 60);
  EXPECT_NEAR(Get(2).scores().files(), 1, 1e-9) << "chunks do not count beside their segment";
}

TEST_F(JudgingTest, AnAssessmentIsAJobOfTheScorer) {
  const std::string scorer = AddScorer();
  Upload(1);
  v1::SubmitRequest request = Request(1, {Source(1)});
  request.mutable_spec()->mutable_options()->set_assess(true);
  EXPECT_EQ(AcceptSubmit(farm_, request).status().code(), StatusCode::kInvalidArgument) << "an enhancer";
  request.mutable_spec()->mutable_options()->set_model_id(scorer);
  ASSERT_TRUE(AcceptSubmit(farm_, request).ok());
  EXPECT_EQ(Get(1).spec().options().scorer().model_id(), scorer);
  const std::string w = Register("w");
  EXPECT_EQ(Complete(w, Item(Lease(w).at(0), 70, 70)).code(), 0);

  v1::SubmitRequest video = Request(2, {Video(2, 10)});
  *video.mutable_spec()->mutable_options() = request.spec().options();
  const Status refused = AcceptSubmit(farm_, video).status();
  EXPECT_EQ(refused.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(refused.message().find("only pictures are assessed"), std::string::npos) << refused;
}

}  // namespace
}  // namespace nsic
