// nsic-train: trains enhancers and measures model packs. Exit codes: 0 done, 1 failed or stopped, 2 usage.
#include <malloc.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <csignal>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/status.h"
#include "models/arch/trainable_net.h"
#include "models/train/corpora/corpus.h"
#include "models/train/corpora/decode_picture.h"
#include "models/train/corpora/spoil_corpus.h"
#include "models/train/fit/export.h"
#include "models/train/fit/fit.h"
#include "models/train/fit/fit_judge.h"
#include "models/train/measure/evaluate.h"
#include "models/train/measure/evaluate_judges.h"
#include "models/train/measure/evaluate_suite.h"
#include "models/train/measure/side_by_side.h"
#include "models/train/samples/recipe.h"

namespace nsic {
namespace {

constexpr int kFailed = 1;
constexpr int kUsage = 2;

std::atomic<bool> stop_requested{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler sets it");

int ExitCode(const Status& status) {
  if (status.ok()) return 0;
  std::cerr << "nsic-train: " << status.message() << std::endl;
  return kFailed;
}

// A step of training takes and frees the same hundreds of megabytes again and again. Fetched anew from the system each time, their pages
// are cleared first, which took a fifth of the time; and more where single blocks are too large for a thread's own arena, which has mmap
// give each of those anew. So all threads share one.
void KeepFreedMemory() {
  mallopt(M_ARENA_MAX, 1);
  mallopt(M_MMAP_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TRIM_THRESHOLD, std::numeric_limits<int>::max());
  mallopt(M_TOP_PAD, 100 << 20);
}

std::string Join(const std::vector<std::string>& words) {
  std::string joined;
  for (const std::string& word : words) joined += (joined.empty() ? "" : ", ") + word;
  return joined;
}

void AddFit(CLI::App* app, FitOptions* fit) {
  CLI::App* command = app->add_subcommand("fit", "Train an enhancer by a recipe; resumes from --state");
  command->add_option("--data", fit->data, "Folders of pictures, or files made by nsic-train corpus, to learn from")->required();
  command->add_option("--val", fit->validation, "The same, to measure on; must hold none of the pictures of --data")->required();
  command->add_option("--state", fit->state, "Folder of the checkpoint, the log (log.csv, curve.svg) and packed pictures")->required();
  command->add_option("--out", fit->out, "Folder of the model pack, written at every validation")->required();
  command->add_option("--name", fit->name, "Name of the model")->required();
  command->add_option("--recipe", fit->recipe, "What to repair: a TOML file or one of " + Join(BuiltInRecipes()) + " (default jpeg)");
  command->add_option("--source", fit->source,
                      "For the model's card: where the data is from, and under which licences; needed for data that does not say it");
  command->add_option("--licence", fit->licence, "Licence of the model, an SPDX identifier (default " + fit->licence + ")");
  command->add_option("--steps", fit->steps, "Train so many steps (or give --minutes)");
  command->add_option("--minutes", fit->minutes, "Train so many minutes, those of resumed runs included (or give --steps)");
  command->add_option("--architecture", fit->architecture,
                      "Of the network: " + Join(TrainableArchitectures()) + " (default: that of --from, an ensemble of several, or light)");
  const auto parameter = [&](const std::string& name, const std::string& what) {
    command->add_option_function<int64_t>(
        "--" + name, [fit, name](int64_t value) { fit->parameters[name] = value; }, what);
  };
  parameter("features", "Channels of the network (default: as --from has it; of new ones, light and ns-iqe 64, unet 48)");
  parameter("layers", "Hidden layers of a light network (default: as --from has it, or 8)");
  parameter("blocks", "Blocks of a unet's level (default: as --from has it, or 2), or of an ns-iqe (16)");
  command->add_option("--from", fit->from,
                      "Folder of a pack of the same network, or a light one of fewer layers, to start from, such as a shipped one; "
                      "of several of one network, the mean of their weights; for an ensemble, of its light and its unet");
  command->add_option("--batch", fit->batch, "Crops a step (default 8)");
  command->add_option("--patch", fit->patch, "Side of a crop in pixels, a multiple of 16 (default 96)");
  command->add_option("--learning-rate", fit->learning_rate, "Highest learning rate (default 0.001)");
  command->add_option("--warm-up", fit->warm_up, "Steps until it is reached (default 500)");
  command->add_option("--seed", fit->seed, "Seed of everything random (default 1)");
  command->add_option("--device", fit->device, "cpu, or a CUDA device such as cuda:0 (default cpu)");
  command->add_option("--threads", fit->threads, "CPU threads; with a CUDA device 1 is best (default: all cores)");
  command->add_flag("--bf16", fit->bfloat16, "Run the convolutions in bf16: four times faster on processors that have it");
  command->add_option("--validate-every", fit->validate_minutes, "Minutes between validations (default 5)");
}

constexpr char kMeasuredState[] = "Folder that keeps what is measured as it goes; the same command goes on from there (default: none)";

// Of "eval": one pack on one folder, or --suite.
struct EvalCommand {
  EvaluateOptions one;
  std::vector<int> qualities, twice, mosaics;
  bool clean = false;
  bool update_card = false;
  bool all = false;
  SuiteOptions suite;
};

void AddEvaluate(CLI::App* app, EvalCommand* eval) {
  CLI::App* command = app->add_subcommand("eval", "Measure an enhancer on files of real codecs, or with --suite all packs of a folder");
  CLI::Option* const pack = command->add_option("--pack", eval->one.pack, "Folder of the model pack");
  command->add_option("--data", eval->one.data, "Folder of pictures")->needs(pack);
  const auto list = [&](const char* name, std::vector<int>* values, const char* what, int highest) {
    command->add_option(name, *values, what)->needs(pack)->delimiter(',')->check(CLI::Range(1, highest));
  };
  list("--quality", &eval->qualities, "Spoil them as JPEGs (libjpeg, 4:2:0) of these qualities: 10,20,30,40,90", 100);
  list("--twice", &eval->twice, "Spoil them as JPEGs of these qualities, then as ones of quality 30 whose blocks lie 4 pixels off", 100);
  list("--mosaic", &eval->mosaics, "Spoil them with squares of so many pixels", 64);
  command->add_flag("--clean", eval->clean, "Leave them as they are")->needs(pack);
  command->add_flag("--suite", eval->all, "All of that, for all packs in --packs: the tables of the literature, and the judges'")
      ->excludes(pack);
  command->add_option("--packs", eval->suite.packs, "With --suite: folder with a folder for each pack");
  command->add_option("--photographs", eval->suite.photographs, "With --suite: folder of photographs that no pack has learnt from");
  command->add_option("--drawings", eval->suite.drawings, "With --suite: the same of drawings");
  command->add_option("--scorer", eval->suite.other_scorers, "With --suite: folders of scorers to measure beside those of --packs");
  command->add_option("--brisque", eval->suite.brisque, "With --suite: as eval-judges has it");
  command->add_option("--pictures", eval->one.pictures, "At most so many of each folder, evenly spaced (default: all)")
      ->check(CLI::Range(1, 1 << 30));
  command->add_option("--device", eval->one.device, "auto, cpu, or a CUDA device such as cuda:0 (default auto)");
  command->add_option("--threads", eval->one.threads, "CPU threads; 0, the default, means all cores")->check(CLI::Range(0, 1024));
  command->add_option("--state", eval->one.state, kMeasuredState);
  command->add_flag("--update-card", eval->update_card, "Put the results into the cards of what is measured");
}

// What is missing on the command line, or nothing.
std::string MissingOf(const EvalCommand& eval) {
  if (eval.all) {
    const bool whole = !eval.suite.packs.empty() && !eval.suite.photographs.empty() && !eval.suite.drawings.empty();
    return whole ? "" : "eval --suite needs --packs, --photographs and --drawings";
  }
  if (eval.one.pack.empty() || eval.one.data.empty()) return "eval needs --pack and --data, or --suite";
  const bool any = !eval.qualities.empty() || !eval.twice.empty() || !eval.mosaics.empty() || eval.clean;
  return any ? "" : "eval needs at least one of --quality, --twice, --mosaic and --clean";
}

Status Evaluate(EvalCommand eval, const Clock& clock) {
  if (eval.all) {
    eval.suite.pictures = eval.one.pictures;
    eval.suite.device = eval.one.device;
    eval.suite.threads = eval.one.threads;
    eval.suite.state = eval.one.state;
    eval.suite.update_cards = eval.update_card;
    return EvaluateSuite(eval.suite, clock, std::cerr, std::cout);
  }
  using By = Spoiling::By;
  for (const int quality : eval.qualities) eval.one.spoilings.push_back({By::kJpeg, quality});
  for (const int quality : eval.twice) eval.one.spoilings.push_back({By::kJpegTwice, quality});
  for (const int side : eval.mosaics) eval.one.spoilings.push_back({By::kMosaic, side});
  if (eval.clean) eval.one.spoilings.push_back({});
  NSIC_ASSIGN_OR_RETURN(const Evaluation evaluation, Evaluate(eval.one, clock, std::cerr));
  std::cout << EvaluationTable(evaluation);
  return eval.update_card ? WriteToCard(eval.one.pack, {evaluation}) : OkStatus();
}

void AddFitJudge(CLI::App* app, FitJudgeOptions* fit) {
  CLI::App* command =
      app->add_subcommand("fit-judge", "Train a model that judges pictures: a scorer or a classifier; resumes from --state");
  command->add_option("--task", fit->task, "score: how good a picture looks; classify: which pack it needs")
      ->required()
      ->transform(
          CLI::CheckedTransformer(std::map<std::string, ModelTask>{{"score", ModelTask::kScore}, {"classify", ModelTask::kClassify}}));
  command->add_option("--photographs", fit->photographs, "Folders of pictures, or files made by nsic-train corpus, to learn from")
      ->required();
  command->add_option("--drawings", fit->drawings, "The same")->required();
  command->add_option("--val-photographs", fit->photograph_validation, "The same, to measure on; must hold none of those learnt from")
      ->required();
  command->add_option("--val-drawings", fit->drawing_validation, "The same")->required();
  command->add_option("--state", fit->state, "Folder of the checkpoint, the log (log.csv, curve.svg) and packed pictures")->required();
  command->add_option("--out", fit->out, "Folder of the model pack, written at every validation")->required();
  command->add_option("--name", fit->name, "Name of the model")->required();
  command->add_option("--source", fit->source,
                      "For the model's card: where the data is from, and under which licences; needed for data that does not say it");
  command->add_option("--licence", fit->licence, "Licence of the model, an SPDX identifier (default " + fit->licence + ")");
  command->add_option("--architecture", fit->architecture,
                      "tile: looks at native resolution; ns-iqa: the original scorer's, to compare with (default tile)");
  command->add_option("--features", fit->features, "Channels of the first level of a tile network (default 16)");
  command->add_option("--from", fit->from,
                      "Folder of a pack of the same network to start from, such as a shipped one; of several, the mean of their weights");
  command->add_option("--steps", fit->steps, "Train so many steps (or give --minutes)");
  command->add_option("--minutes", fit->minutes, "Train so many minutes, those of resumed runs included (or give --steps)");
  command->add_option("--batch", fit->batch, "Samples a step; of the scorer two tiles each (default 32)");
  command->add_option("--learning-rate", fit->learning_rate, "Highest learning rate (default 0.002)");
  command->add_option("--warm-up", fit->warm_up, "Steps until it is reached (default 500)");
  command->add_option("--seed", fit->seed, "Seed of everything random (default 1)");
  command->add_option("--device", fit->device, "cpu, or a CUDA device such as cuda:0 (default cpu)");
  command->add_option("--threads", fit->threads, "CPU threads; with a CUDA device 1 is best (default: all cores)");
  command->add_flag("--bf16", fit->bfloat16, "Run the convolutions in bf16");
  command->add_option("--validate-every", fit->validate_minutes, "Minutes between validations (default 5)");
}

void AddEvaluateJudges(CLI::App* app, EvaluateJudgesOptions* evaluate) {
  CLI::App* command = app->add_subcommand(
      "eval-judges",
      "Measure a scorer and a classifier on files of libjpeg, libwebp, x264 and x265, on blur, noise, rescaling and mosaics");
  command->add_option("--scorer", evaluate->scorers, "Folder of a scorer's pack; more than one are measured side by side");
  command->add_option("--classifier", evaluate->classifier, "Folder of the classifier's pack");
  command->add_option("--photographs", evaluate->photographs, "Folders of pictures that neither has learnt from")->required();
  command->add_option("--drawings", evaluate->drawings, "The same")->required();
  command->add_option("--pictures", evaluate->pictures, "At most so many of each, evenly spaced (default: all)")
      ->check(CLI::Range(1, 1 << 30));
  command->add_option(
      "--brisque", evaluate->brisque,
      "Measure BRISQUE too: folder of brisque_model_live.yml and brisque_range_live.yml, as in Debian's package opencv-doc");
  command->add_option("--device", evaluate->device, "auto, cpu, or a CUDA device such as cuda:0 (default auto)");
  command->add_option("--threads", evaluate->threads, "CPU threads; 0, the default, means all cores")->check(CLI::Range(0, 1024));
  command->add_option("--state", evaluate->state, kMeasuredState);
  command->add_flag("--update-cards", evaluate->update_cards, "Put the results into the cards of the first scorer and of the classifier");
}

// Of "side-by-side".
struct SideBySideCommand {
  SideBySideOptions options;
  std::vector<int> piece;
  int quality = 0, twice = 0, mosaic = 0;
};

void AddSideBySide(CLI::App* app, SideBySideCommand* draw) {
  CLI::App* command =
      app->add_subcommand("side-by-side", "Draw a piece of a picture spoilt, restored by each of some packs, and as it was");
  command->add_option("--picture", draw->options.picture, "The picture, as good as it should be")->required();
  command->add_option("--piece", draw->piece, "Where: X,Y,WIDTH,HEIGHT in pixels")->required()->delimiter(',')->expected(4);
  CLI::Option_group* spoilings = command->add_option_group("spoilings");
  spoilings->add_option("--quality", draw->quality, "Spoil it as a JPEG of this quality")->check(CLI::Range(1, 100));
  spoilings->add_option("--twice", draw->twice, "As eval has it")->check(CLI::Range(1, 100));
  spoilings->add_option("--mosaic", draw->mosaic, "Spoil it with squares of so many pixels")->check(CLI::Range(1, 64));
  spoilings->require_option(1);
  command->add_option("--packs", draw->options.packs, "Folders of model packs, in the order to show them")->required();
  command->add_option("--out", draw->options.out, "The PNG to write")->required();
}

Status DrawSideBySide(SideBySideCommand draw) {
  using By = Spoiling::By;
  draw.options.piece = {draw.piece[0], draw.piece[1], draw.piece[2], draw.piece[3]};
  draw.options.spoiling = draw.quality > 0 ? Spoiling{By::kJpeg, draw.quality}
                          : draw.twice > 0 ? Spoiling{By::kJpegTwice, draw.twice}
                                           : Spoiling{By::kMosaic, draw.mosaic};
  return DrawSideBySide(draw.options);
}

struct CorpusOptions {
  std::string out;
  std::vector<std::string> folders;
  std::vector<std::string> sources;
  std::vector<std::string> licences;
};

void AddCorpus(CLI::App* app, CorpusOptions* corpus) {
  CLI::App* command = app->add_subcommand("corpus", "Pack folders of pictures into one file for machines without image libraries");
  command->add_option("--out", corpus->out, "The file to write")->required();
  command->add_option("--source", corpus->sources, "Where a folder's pictures are from; once for each folder, in order")
      ->required()
      ->allow_extra_args(false);
  command->add_option("--licence", corpus->licences, "Under which licence; once for each folder, in order")
      ->required()
      ->allow_extra_args(false);
  command->add_option("FOLDER", corpus->folders, "Folders of pictures")->required();
}

Status PackCorpus(const CorpusOptions& corpus) {
  std::vector<PictureSource> folders;
  for (size_t i = 0; i < corpus.folders.size(); ++i) folders.push_back({corpus.folders[i], 0, corpus.sources[i], corpus.licences[i]});
  std::vector<std::string> skipped;
  const Status status = PackFolders(folders, corpus.out, &skipped);
  for (const std::string& reason : skipped) std::cerr << "skipped: " << reason << std::endl;
  return status;
}

void AddSpoil(CLI::App* app, SpoilOptions* spoil) {
  CLI::App* command = app->add_subcommand("spoil", "Pack pictures with versions made by WebP, H.264 and HEVC, for fit-judge --task score");
  command->add_option("--data", spoil->data, "A file made by nsic-train corpus")->required();
  command->add_option("--out", spoil->out, "The file to write")->required();
  command->add_option("--pictures", spoil->pictures, "At most this many, evenly spaced (default 0: all)")->check(CLI::NonNegativeNumber);
  command->add_option("--versions", spoil->versions, "Of each picture by each codec (default 4)")->check(CLI::Range(2, 16));
  command->add_option("--seed", spoil->seed, "Of the random qualities (default 1)");
}

int Main(int argc, char** argv) {
  CLI::App app("Trains enhancers and measures model packs", "nsic-train");
  app.require_subcommand(1);
  FitOptions fit;
  fit.threads = std::max(1u, std::thread::hardware_concurrency());
  AddFit(&app, &fit);
  FitJudgeOptions fit_judge;
  fit_judge.threads = fit.threads;
  AddFitJudge(&app, &fit_judge);
  EvalCommand eval;
  AddEvaluate(&app, &eval);
  EvaluateJudgesOptions evaluate_judges;
  AddEvaluateJudges(&app, &evaluate_judges);
  SideBySideCommand side_by_side;
  AddSideBySide(&app, &side_by_side);
  CorpusOptions corpus;
  AddCorpus(&app, &corpus);
  SpoilOptions spoil;
  AddSpoil(&app, &spoil);
  std::string state, out;
  CLI::App* write = app.add_subcommand("export", "Write the model pack of a training run, which may be going on");
  write->add_option("--state", state, "The --state of the run")->required();
  write->add_option("--out", out, "Folder of the model pack")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  if (corpus.sources.size() != corpus.folders.size() || corpus.licences.size() != corpus.folders.size()) {
    std::cerr << "nsic-train: give --source and --licence once for each folder" << std::endl;
    return kUsage;
  }

  if (const std::string missing = app.got_subcommand("eval") ? MissingOf(eval) : ""; !missing.empty()) {
    std::cerr << "nsic-train: " << missing << std::endl;
    return kUsage;
  }

  const std::shared_ptr<void> decoding = StartDecoding();
  const SystemClock clock;
  if (app.got_subcommand("fit") || app.got_subcommand("fit-judge")) {
    KeepFreedMemory();
    for (int signal : {SIGTERM, SIGINT}) std::signal(signal, [](int) { stop_requested = true; });
    return ExitCode(app.got_subcommand("fit") ? Fit(fit, clock, stop_requested, std::cerr)
                                              : FitJudge(fit_judge, clock, stop_requested, std::cerr));
  }
  if (app.got_subcommand("eval-judges")) {
    const Result<JudgesEvaluation> evaluation = EvaluateJudges(evaluate_judges, clock, std::cerr);
    if (!evaluation.ok()) return ExitCode(evaluation.status());
    std::cout << JudgesTable(*evaluation);
    return 0;
  }
  if (app.got_subcommand("side-by-side")) return ExitCode(DrawSideBySide(side_by_side));
  if (app.got_subcommand("spoil")) return ExitCode(SpoilCorpus(spoil, std::cerr));
  if (app.got_subcommand("corpus")) return ExitCode(PackCorpus(corpus));
  if (app.got_subcommand("export")) return ExitCode(Export(state, out));
  return ExitCode(Evaluate(eval, clock));
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) { return nsic::Main(argc, argv); }
