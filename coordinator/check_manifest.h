// The coordinator's view of what a client asks for: untrusted until it has passed here.
#ifndef NSIC_COORDINATOR_CHECK_MANIFEST_H_
#define NSIC_COORDINATOR_CHECK_MANIFEST_H_

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/status.h"
#include "nsic/v1/jobs.pb.h"

namespace nsic {

inline constexpr int64_t kMaxManifestBytes = int64_t{256} << 20;
inline constexpr int kMaxFiles = 500'000;
inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr size_t kMaxNameBytes = 255;
inline constexpr int kMaxSide = 1'000'000;                    // pixels
inline constexpr int64_t kMaxPictureArea = int64_t{1} << 32;  // pixels
inline constexpr int64_t kDefaultSplitPixels = 24'000'000;

// 32 lower-case hexadecimal digits.
bool IsId(std::string_view text);

// INVALID_ARGUMENT names the field. A split_pixels of 0 becomes the default; nothing else is changed.
Status CheckSpec(v1::JobSpec* spec);

// INVALID_ARGUMENT names the file and what is wrong with it: counts, paths (relative, no "..", no NUL), duplicates, hashes, sizes, pixels,
// what is said of videos.
Status CheckManifest(const v1::JobManifest& manifest);

// "file 3 of the manifest, 'holiday/b.mkv', " as a person may read it.
std::string NameOfFile(const v1::JobManifest& manifest, int index);

}  // namespace nsic

#endif  // NSIC_COORDINATOR_CHECK_MANIFEST_H_
