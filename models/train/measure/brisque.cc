#include "models/train/measure/brisque.h"

#include <cstdint>
#include <opencv2/core.hpp>
#include <opencv2/imgproc.hpp>
#include <opencv2/quality/qualitybrisque.hpp>

namespace nsic {

Result<std::function<Result<double>(const Rgb8&)>> LoadBrisque(const std::string& folder) {
  cv::Ptr<cv::quality::QualityBRISQUE> brisque;
  try {
    brisque = cv::quality::QualityBRISQUE::create(folder + "/brisque_model_live.yml", folder + "/brisque_range_live.yml");
  } catch (const cv::Exception& error) {
    return InvalidArgumentError(folder + " has no BRISQUE model that OpenCV can read (" + error.msg +
                                "); unpack Debian's package opencv-doc for its examples of the quality module");
  }
  return std::function<Result<double>(const Rgb8&)>([brisque](const Rgb8& picture) -> Result<double> {
    try {
      const cv::Mat rgb(picture.size.height, picture.size.width, CV_8UC3, const_cast<uint8_t*>(picture.samples.data()));
      cv::Mat bgr;
      cv::cvtColor(rgb, bgr, cv::COLOR_RGB2BGR);
      return 100 - brisque->compute(bgr)[0];
    } catch (const cv::Exception& error) {
      return InternalError(std::string("OpenCV: ") + error.what());
    }
  });
}

}  // namespace nsic
