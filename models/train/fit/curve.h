// The course of a training as a picture.
#ifndef NSIC_MODELS_TRAIN_FIT_CURVE_H_
#define NSIC_MODELS_TRAIN_FIT_CURVE_H_

#include <string>
#include <string_view>

namespace nsic {

// An SVG of two panels over the steps: the loss, and what validation measured, under `title`. `log`: the text of log.csv, with the columns
// step,minutes,learning_rate,loss and those of validation: NAME_before,NAME_after, whose difference is drawn, or NAME.
std::string CurveSvg(std::string_view log, const std::string& title);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_FIT_CURVE_H_
