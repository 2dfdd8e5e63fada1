// Walks the paths of a submit and finds the files in them.
#ifndef NSIC_CLIENT_SCAN_INPUTS_H_
#define NSIC_CLIENT_SCAN_INPUTS_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"

namespace nsic {

// Where a submit's report and record lie, in its output folder. Folders of this name are not walked.
inline constexpr std::string_view kReportFolderName = "nsic-report";
// Where --preview puts frames, in the output folder. Not walked either.
inline constexpr std::string_view kPreviewFolderName = "nsic-preview";

// A PATH of the command line.
struct InputRoot {
  std::string path;  // absolute, without "." and ".."; what is above the last name has no symbolic links
  bool folder = false;

  std::string name() const;    // the last part; empty for "/"
  std::string parent() const;  // "/" for a root in "/"
};

struct FoundFile {
  size_t root = 0;       // index into Scan::roots
  std::string relative;  // below a root folder; the file's name for a root that is a file
  std::string path;      // absolute
};

// What will not be restored, and why.
struct LeftOut {
  std::string path;
  std::string reason;   // one sentence; names the file when it failed
  bool failed = false;  // it should have been possible (unreadable folder); otherwise skipped
};

struct Scan {
  std::vector<InputRoot> roots;
  std::vector<FoundFile> files;  // by root, then sorted by the bytes of `relative`
  std::vector<LeftOut> left_out;
};

// Whether the name promises a picture of a format that we read: such a file that turns out to be none has failed; others are skipped.
bool IsPictureName(std::string_view name);
// The same for a video. (".ts" and ".mts" promise nothing: they are also TypeScript's.)
bool IsVideoName(std::string_view name);
// Whether the name promises sound alone, though its content looks like a video's: ".mka", ".wma".
bool IsAudioName(std::string_view name);

// Folders are walked whole, symbolic links followed, each folder once: a link to a folder that is part of the inputs anyway is passed
// over, so loops end. Hidden entries, everything that is neither file nor folder, and outputs of earlier submits (their records tell) are
// left out with a reason. A file that two paths lead to counts for the first. INVALID_ARGUMENT when one of `paths` itself cannot be
// examined.
Result<Scan> ScanInputs(const std::vector<std::string>& paths);

}  // namespace nsic

#endif  // NSIC_CLIENT_SCAN_INPUTS_H_
