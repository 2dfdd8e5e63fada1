// The course of a training as a picture.
#ifndef NSIC_MODELS_TRAIN_CURVE_H_
#define NSIC_MODELS_TRAIN_CURVE_H_

#include <string>
#include <string_view>

namespace nsic {

// An SVG of two panels over the steps: the loss, and what the model gains on each validation case (dB). `log`: the text of log.csv, with
// the columns step,minutes,learning_rate,loss and NAME_before,NAME_after for each case.
std::string CurveSvg(std::string_view log);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_CURVE_H_
