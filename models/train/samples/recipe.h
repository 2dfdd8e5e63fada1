// A recipe: what a model learns to repair, what its training minimises and what its validation measures. A TOML file:
//
//   description = "Repairs JPEG compression of photographs."    of the model, for its card
//   clean = 0.03                    share of the crops that stay as they are: a model must leave good pictures alone
//   shuffled = true                 each crop takes its steps in an order of its own; otherwise as listed
//
//   [[step]]
//   kind = "jpeg"                   jpeg, mosaic, gaussian-noise, poisson-noise, blur, rescale, video
//   share = 0.8                     of the crops that take this step; 1 unless given
//   quality = [10, 95]              the fields of JpegStep and its sisters in degrade.h; a range is [low, high] or one number
//   resampling = ["box", "triangle", "cubic", "lanczos"]
//
//   [loss]                          the weights of LossWeights in losses.h
//   log_mse = 1
//
//   [[validate]]                    one or more: PSNR is measured before and after the model
//   name = "q10"
//   step = [{ kind = "jpeg", quality = 10, halved_chroma = 1 }]
#ifndef NSIC_MODELS_TRAIN_SAMPLES_RECIPE_H_
#define NSIC_MODELS_TRAIN_SAMPLES_RECIPE_H_

#include <string>
#include <string_view>
#include <vector>

#include "core/base/status.h"
#include "models/train/fit/losses.h"
#include "models/train/samples/degrade.h"

namespace nsic {

struct ValidationCase {
  std::string name;  // lower case letters, digits, '_'
  Degradation degradation;
};

struct Recipe {
  std::string description;
  Degradation degradation;
  LossWeights loss;
  std::vector<ValidationCase> validation;  // at least one
  std::string json;                        // all that the file says; equal for files that say the same
};

// The recipes that the program carries, such as "jpeg".
std::vector<std::string> BuiltInRecipes();

// A built-in recipe by its name, or a file. INVALID_ARGUMENT names file, line and what is wrong.
Result<Recipe> LoadRecipe(const std::string& name_or_path);

// `what` stands for the text in messages.
Result<Recipe> ParseRecipe(std::string_view text, const std::string& what);

}  // namespace nsic

#endif  // NSIC_MODELS_TRAIN_SAMPLES_RECIPE_H_
