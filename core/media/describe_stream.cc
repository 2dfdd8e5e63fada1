#include "core/media/describe_stream.h"

#include <cstring>

namespace nsic {
namespace {

std::string Metadata(const AVDictionary* dictionary, const char* key) {
  const AVDictionaryEntry* const entry = av_dict_get(dictionary, key, nullptr, 0);
  return entry == nullptr ? "" : entry->value;
}

std::string TagText(uint32_t tag) {
  std::string text;
  for (int shift = 0; shift < 32; shift += 8) {
    const auto c = static_cast<char>(tag >> shift & 255);
    if (c > ' ' && c < 127) text += c;
  }
  return text;
}

}  // namespace

StreamFacts DescribeStream(const AVStream& stream) {
  const AVCodecParameters& parameters = *stream.codecpar;
  StreamFacts facts;
  facts.index = stream.index;
  const char* const kind = av_get_media_type_string(parameters.codec_type);
  facts.kind = kind == nullptr ? "data" : kind;
  const std::string tag = TagText(parameters.codec_tag);
  facts.codec = facts.kind == "data" && !tag.empty() ? tag : avcodec_get_name(parameters.codec_id);
  facts.language = Metadata(stream.metadata, "language");
  facts.title = Metadata(stream.metadata, "title");
  facts.attached_picture = (stream.disposition & (AV_DISPOSITION_ATTACHED_PIC | AV_DISPOSITION_TIMED_THUMBNAILS)) != 0;
  return facts;
}

bool IsTurned(const AVStream& stream) {
  size_t size = 0;
  const uint8_t* const data = av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, &size);
  if (data == nullptr || size < 9 * sizeof(int32_t)) return false;
  int32_t matrix[9];
  std::memcpy(matrix, data, sizeof(matrix));
  return matrix[0] <= 0 || matrix[4] <= 0 || matrix[1] != 0 || matrix[3] != 0;
}

}  // namespace nsic
