// Where the time of whole pictures goes: each step of the worker alone, one after the other, for every picture.
//   picture_bench PACK PRECISION FILE...
// PACK: a model pack's folder. PRECISION: fp32, bf16. "enhance" is the bare engine.
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/digest.h"
#include "core/infer/engine.h"
#include "core/media/picture.h"
#include "models/io/model_pack.h"
#include "tests/bench/bench_tools.h"
#include "worker/stopwatch.h"

namespace nsic {
namespace {

struct Step {
  const char* name;
  double wall = 0;
  double cpu = 0;
};

int Run(const std::string& pack_folder, const std::string& precision, const std::vector<std::string>& files) {
  const MediaLibrary media(0);
  const SystemClock clock;
  const CancelToken never;
  SetEngineThreads(0);
  EngineOptions options;
  options.device = "cpu";
  options.precision = Need(ParsePrecision(precision));
  const std::unique_ptr<Enhancer> enhancer = Need(LoadEnhancer(Need(ReadModelPack(pack_folder)), options));
  const std::string out = (std::filesystem::temp_directory_path() / ("picture-bench-" + RandomHex(6))).string();
  Step steps[] = {{"decode"}, {"enhance"}, {"finish"}};
  double megapixels = 0;
  for (const std::string& file : files) {
    double wall = 0, cpu = 0;
    const auto measure = [&](Step* step, const auto& work) {
      const double cpu_before = CpuSeconds();
      const Stopwatch watch(&clock);
      work();
      step->wall += wall = watch.seconds();
      step->cpu += cpu = CpuSeconds() - cpu_before;
    };
    std::unique_ptr<PictureReader> reader;
    measure(&steps[0], [&] { reader = Need(PictureReader::Open(file)); });
    const Size size = reader->info().size;
    const int scale = enhancer->card().scale;
    WorkingPicture working({0, 0, size.width * scale, size.height * scale});
    measure(&steps[1], [&] {
      Need(enhancer
               ->Enhance(
                   size, {0, 0, size.width, size.height}, [&](const Rect& rect, float* planar) { return reader->Read(rect, planar); },
                   [&](const Rect& rect, const float* planar) {
                     working.Write(rect, planar);
                     return OkStatus();
                   },
                   never)
               .status());
    });
    FinishOptions finish;
    measure(&steps[2], [&] { Need(FinishPicture(file, working, finish, out)); });
    megapixels += static_cast<double>(size.area()) * 1e-6;
  }
  std::filesystem::remove(out);
  const double count = static_cast<double>(files.size());
  for (const Step& step : steps) {
    std::printf("%-8s %8.2f ms a picture, %8.2f ms of CPU, %8.2f MP/s\n", step.name, 1e3 * step.wall / count, 1e3 * step.cpu / count,
                megapixels / step.wall);
  }
  return 0;
}

}  // namespace
}  // namespace nsic

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: picture_bench PACK PRECISION FILE...\n");
    return 2;
  }
  return nsic::Run(argv[1], argv[2], std::vector<std::string>(argv + 3, argv + argc));
}
