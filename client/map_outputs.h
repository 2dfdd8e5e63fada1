// Decides where outputs go: a mirror of the inputs' tree.
//
//   submit photos/            photos-enhanced/...        report in photos-enhanced/nsic-report/
//   submit a.jpg              a-enhanced.jpg beside it   report in nsic-report/ beside it
//   submit photos/ --out O    O/...
//   submit a.jpg --out O      O/a.jpg
//   submit P Q --out O        O/P/..., O/Q/...           (files: O/a.jpg)
//   submit photos/ --preview N    photos-enhanced/nsic-preview/a.mp4/..., report in photos-enhanced/nsic-preview/nsic-report/
#ifndef NSIC_CLIENT_MAP_OUTPUTS_H_
#define NSIC_CLIENT_MAP_OUTPUTS_H_

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "client/scan_inputs.h"
#include "core/base/status.h"
#include "core/media/picture.h"

namespace nsic {

struct OutputPlaces {
  std::string report_folder;
  std::vector<std::string> folders;  // one a root: where its tree, or its one file, goes
  bool beside = false;               // no --out: files get "-enhanced" in their names
};

// `out` as given, empty for none. INVALID_ARGUMENT when outputs would lie inside an input folder, or when "/" is submitted without
// `out`; FAILED_PRECONDITION when a folder's place is taken by something that is no folder.
Result<OutputPlaces> PlaceOutputs(const std::vector<InputRoot>& roots, const std::string& out);

// The output of one file. The name keeps its extension unless the format changes to one that the extension does not stand for.
std::string OutputPath(const OutputPlaces& places, const InputRoot& root, const FoundFile& file, PictureFormat source,
                       PictureFormat output);

// The same for a video: its extension follows the container, "mkv", "mp4" (also .m4v and .mov) or "webm".
std::string VideoOutputPath(const OutputPlaces& places, const InputRoot& root, const FoundFile& file, const std::string& container);

// The folder of a video's preview.
std::string PreviewFolder(const OutputPlaces& places, const FoundFile& file);

// The file's name in the job's manifest: unique, relative.
std::string ManifestPath(const std::vector<InputRoot>& roots, const FoundFile& file);

struct MappedFile {
  std::string input;
  std::string output;
};
// INVALID_ARGUMENT, naming both, when two inputs map to one output or an output is an input (originals are never written);
// FAILED_PRECONDITION when an output exists and `is_ours` does not know it.
Status CheckOutputs(const std::vector<MappedFile>& files, const std::function<bool(const std::string& output)>& is_ours);

}  // namespace nsic

#endif  // NSIC_CLIENT_MAP_OUTPUTS_H_
