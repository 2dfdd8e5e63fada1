// A Blobs service in memory that does what proto/nsic/v1/blobs.proto says, until it is told to break streams, to lie or to be full.
#ifndef NSIC_TESTS_FAKES_FAKE_BLOBS_H_
#define NSIC_TESTS_FAKES_FAKE_BLOBS_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "core/base/digest.h"
#include "core/rpc/blob_transfer.h"
#include "nsic/v1/blobs.grpc.pb.h"

namespace nsic {

// The public members are guarded by `mutex` while a server uses it.
class FakeBlobs : public v1::Blobs::Service {
 public:
  grpc::Status Stat(grpc::ServerContext*, const v1::StatBlobRequest* request, v1::BlobStat* stat) override {
    std::lock_guard<std::mutex> lock(mutex);
    const auto found = stored.find(request->sha256());
    stat->set_stored(found != stored.end());
    if (found != stored.end()) {
      const std::string& bytes = found->second;
      stat->set_size(static_cast<int64_t>(bytes.size()));
      for (size_t at = 0; at < bytes.size(); at += kBlobPartBytes)
        stat->add_chunk_sha256(FromHex(Sha256Hex(bytes.substr(at, kBlobPartBytes))));
    }
    stat->set_received(static_cast<int64_t>(partial[request->sha256()].size()));
    return grpc::Status::OK;
  }

  grpc::Status Upload(grpc::ServerContext*, grpc::ServerReader<v1::UploadChunk>* stream, v1::UploadResult* result) override {
    v1::UploadChunk chunk;
    if (!stream->Read(&chunk)) return {grpc::INVALID_ARGUMENT, "no header"};
    const v1::UploadHeader header = chunk.header();
    const std::string& hash = header.blob().sha256();
    std::unique_lock<std::mutex> lock(mutex);
    ++uploads;
    if (full) return {grpc::RESOURCE_EXHAUSTED, "over quota"};
    if (out_of_range-- > 0) return {grpc::OUT_OF_RANGE, "another upload moved on"};
    std::string& bytes = partial[hash];
    if (header.offset() != static_cast<int64_t>(bytes.size())) return {grpc::OUT_OF_RANGE, "offset"};
    size_t until_break = NextBreak();
    do {
      size_t take = chunk.data().size();
      largest_chunk = std::max(largest_chunk, take);
      if (take > until_break) {
        bytes.append(chunk.data(), 0, until_break);
        return {grpc::UNAVAILABLE, "broken on purpose"};
      }
      until_break -= take;
      bytes += chunk.data();
      uploaded += static_cast<int64_t>(take);
    } while (stream->Read(&chunk));
    if (spoil_uploads > 0 && !bytes.empty()) {
      --spoil_uploads;
      bytes[bytes.size() / 2] ^= 1;
    }
    result->set_received(static_cast<int64_t>(bytes.size()));
    if (static_cast<int64_t>(bytes.size()) < header.blob().size()) return grpc::Status::OK;
    if (Sha256Hex(bytes) != hash) {
      partial.erase(hash);
      return {grpc::DATA_LOSS, "hash"};
    }
    stored[hash] = bytes;
    partial.erase(hash);
    result->set_complete(true);
    return grpc::Status::OK;
  }

  grpc::Status Download(grpc::ServerContext*, const v1::DownloadRequest* request, grpc::ServerWriter<v1::DownloadChunk>* stream) override {
    std::unique_lock<std::mutex> lock(mutex);
    ++downloads;
    offsets.push_back(request->offset());
    if (unavailable) return {grpc::UNAVAILABLE, "going down"};
    const auto found = stored.find(request->sha256());
    if (found == stored.end()) return {grpc::NOT_FOUND, "no such blob"};
    if (request->offset() < 0 || request->offset() > static_cast<int64_t>(found->second.size())) return {grpc::OUT_OF_RANGE, "offset"};
    std::string bytes = found->second.substr(static_cast<size_t>(request->offset()),
                                             request->length() == 0 ? SIZE_MAX : static_cast<size_t>(request->length()));
    if (lying.count(request->sha256()) > 0 && !bytes.empty()) bytes[bytes.size() / 2] ^= 1;
    if (spoil_downloads > 0) {
      --spoil_downloads;
      bytes[bytes.size() / 2] ^= 1;
    }
    if (append_download) bytes += "more";
    downloaded += static_cast<int64_t>(bytes.size());
    size_t until_break = NextBreak();
    lock.unlock();
    for (size_t at = 0; at < bytes.size();) {
      const size_t piece = std::min({bytes.size() - at, size_t{100'000}, until_break});
      v1::DownloadChunk chunk;
      chunk.set_data(bytes.substr(at, piece));
      if (piece > 0 && !stream->Write(chunk)) return grpc::Status::CANCELLED;
      at += piece;
      until_break -= piece;
      if (until_break == 0) return end_quietly ? grpc::Status::OK : grpc::Status(grpc::UNAVAILABLE, "broken on purpose");
    }
    return grpc::Status::OK;
  }

  std::string Store(const std::string& bytes) {
    std::lock_guard<std::mutex> lock(mutex);
    const std::string hash = Sha256Hex(bytes);
    stored[hash] = bytes;
    return hash;
  }

  std::mutex mutex;
  std::map<std::string, std::string> stored;
  std::map<std::string, std::string> partial;
  std::vector<size_t> breaks;  // how many bytes each following stream lives for; after the last, for ever
  bool end_quietly = false;    // a broken download ends with OK
  bool full = false;
  bool unavailable = false;
  bool append_download = false;
  std::set<std::string> lying;  // blobs of which every download has a wrong byte
  int spoil_uploads = 0;
  int spoil_downloads = 0;
  int out_of_range = 0;
  int uploads = 0;
  int downloads = 0;
  int64_t uploaded = 0;
  int64_t downloaded = 0;
  size_t largest_chunk = 0;
  std::vector<int64_t> offsets;

 private:
  static std::string FromHex(const std::string& text) {
    std::string bytes;
    for (size_t at = 0; at < text.size(); at += 2) bytes += static_cast<char>(std::stoi(text.substr(at, 2), nullptr, 16));
    return bytes;
  }
  size_t NextBreak() {
    if (breaks.empty()) return SIZE_MAX;
    const size_t next = breaks.front();
    breaks.erase(breaks.begin());
    return next;
  }
};

}  // namespace nsic

#endif  // NSIC_TESTS_FAKES_FAKE_BLOBS_H_
