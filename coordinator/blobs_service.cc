#include <algorithm>
#include <memory>
#include <string>
#include <utility>

#include "coordinator/db/blobs.h"
#include "coordinator/db/database.h"
#include "coordinator/receive_blob.h"
#include "coordinator/services.h"
#include "core/base/digest.h"
#include "core/farm/blob_store.h"
#include "nsic/v1/blobs.grpc.pb.h"

namespace nsic {
namespace {

constexpr int kMaxAsked = 10'000;
constexpr int64_t kMaxPiece = int64_t{1} << 20;

// Receives one stream: each message is written by the pool of transfers, then the next is asked for. Frees itself.
class UploadStream : public grpc::ServerReadReactor<v1::UploadChunk> {
 public:
  UploadStream(const CallGate& gate, const grpc::CallbackServerContext& context, BlobReceiver* receiver, v1::UploadResult* reply)
      : gate_(gate), record_(gate, "Blobs.Upload"), receiver_(receiver), reply_(reply) {
    if (const Status admitted = gate.Admit(context); !admitted.ok()) {
      End(admitted);
    } else {
      StartRead(&chunk_);
    }
  }

  void OnReadDone(bool ok) override {
    gate_.transfers()->Run([this, ok] {
      if (ok) {
        Take();
      } else {
        TakeEnd();
      }
    });
  }

  void OnDone() override { delete this; }

 private:
  void End(const Status& status) {
    // What has arrived stays; another call may go on with it as soon as this one's hold is gone.
    upload_.reset();
    Finish(record_.End(status));
  }

  void Take() {
    if (upload_ == nullptr) {
      if (!chunk_.has_header()) return End(InvalidArgumentError("the first message of an upload needs a header"));
      Result<std::unique_ptr<BlobUpload>> upload = receiver_->Admit(chunk_.header());
      if (!upload.ok()) return End(upload.status());
      if (*upload == nullptr) {  // stored already
        reply_->set_complete(true);
        reply_->set_received(chunk_.header().blob().size());
        return End(OkStatus());
      }
      upload_ = *std::move(upload);
    } else if (chunk_.has_header()) {
      return End(InvalidArgumentError("only the first message of an upload has a header"));
    }
    if (static_cast<int64_t>(chunk_.data().size()) > kMaxPiece) return End(InvalidArgumentError("a message may carry at most 1 MiB"));
    if (const Status status = upload_->Append(chunk_.data()); !status.ok()) return End(status);
    StartRead(&chunk_);
  }

  void TakeEnd() {
    if (upload_ == nullptr) return End(InvalidArgumentError("an upload needs a header"));
    const Result<bool> complete = upload_->Finish();
    if (!complete.ok()) return End(complete.status());
    reply_->set_complete(*complete);
    reply_->set_received(upload_->received());
    End(OkStatus());
  }

  const CallGate& gate_;
  const CallRecord record_;
  BlobReceiver* const receiver_;
  v1::UploadResult* const reply_;
  v1::UploadChunk chunk_;
  std::unique_ptr<BlobUpload> upload_;
};

// Sends a range piece by piece. Frees itself.
class DownloadStream : public grpc::ServerWriteReactor<v1::DownloadChunk> {
 public:
  DownloadStream(const Farm& farm, const CallGate& gate, const grpc::CallbackServerContext& context, const v1::DownloadRequest& request)
      : gate_(gate), record_(gate, "Blobs.Download") {
    if (const Status admitted = gate.Admit(context); !admitted.ok()) {
      Finish(record_.End(admitted));
      return;
    }
    gate.transfers()->Run([this, &farm, request] {
      Result<std::unique_ptr<BlobReader>> reader = farm.blobs->OpenBlob(request.sha256(), request.offset(), request.length());
      if (!reader.ok()) {
        Finish(record_.End(reader.status()));
        return;
      }
      reader_ = *std::move(reader);
      Send();
    });
  }

  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(record_.End(CancelledError("the client has gone")));
      return;
    }
    gate_.transfers()->Run([this] { Send(); });
  }

  void OnDone() override { delete this; }

 private:
  void Send() {
    Result<std::string> piece = reader_->Read(kMaxPiece);
    if (!piece.ok() || piece->empty()) {
      Finish(record_.End(piece.status()));
      return;
    }
    chunk_.set_data(*std::move(piece));
    StartWrite(&chunk_);
  }

  const CallGate& gate_;
  const CallRecord record_;
  std::unique_ptr<BlobReader> reader_;
  v1::DownloadChunk chunk_;
};

class BlobsService : public v1::Blobs::CallbackService {
 public:
  BlobsService(const Farm* farm, const CallGate* gate, BlobReceiver* receiver) : farm_(*farm), gate_(*gate), receiver_(receiver) {}

  grpc::ServerUnaryReactor* FindMissing(grpc::CallbackServerContext* context, const v1::FindMissingRequest* request,
                                        v1::FindMissingResponse* reply) override {
    return ServeUnary(gate_, context, "Blobs.FindMissing", [=]() -> Status {
      if (request->sha256_size() > kMaxAsked) return InvalidArgumentError("at most 10,000 blobs can be asked for at once");
      for (const std::string& sha256 : request->sha256()) {
        if (!IsSha256Hex(sha256)) return InvalidArgumentError("a blob's name is 64 lower-case hexadecimal digits");
      }
      return farm_.database->Write([&](Transaction& transaction) {
        reply->Clear();
        for (const std::string& sha256 : request->sha256()) {
          if (IsStored(transaction, sha256)) {
            TouchBlob(transaction, sha256, farm_.now_ms());
          } else {
            reply->add_missing(sha256);
          }
        }
        return OkStatus();
      });
    });
  }

  grpc::ServerUnaryReactor* Stat(grpc::CallbackServerContext* context, const v1::StatBlobRequest* request, v1::BlobStat* reply) override {
    return ServeUnary(gate_, context, "Blobs.Stat", [=]() -> Status {
      NSIC_ASSIGN_OR_RETURN(const BlobStore::Stat stat, farm_.blobs->Examine(request->sha256()));
      reply->set_received(stat.received);
      if (!stat.stored) return OkStatus();
      reply->set_stored(true);
      reply->set_size(stat.stored->size);
      for (size_t at = 0; at < stat.stored->chunks.size(); at += 32) reply->add_chunk_sha256(stat.stored->chunks.substr(at, 32));
      return OkStatus();
    });
  }

  grpc::ServerReadReactor<v1::UploadChunk>* Upload(grpc::CallbackServerContext* context, v1::UploadResult* reply) override {
    return new UploadStream(gate_, *context, receiver_, reply);
  }

  grpc::ServerWriteReactor<v1::DownloadChunk>* Download(grpc::CallbackServerContext* context, const v1::DownloadRequest* request) override {
    return new DownloadStream(farm_, gate_, *context, *request);
  }

 private:
  const Farm& farm_;
  const CallGate& gate_;
  BlobReceiver* const receiver_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeBlobsService(const Farm* farm, const CallGate* gate, BlobReceiver* receiver) {
  return std::make_unique<BlobsService>(farm, gate, receiver);
}

}  // namespace nsic
