nsic_test(safetensors_test SOURCES unit/safetensors_test.cc LIBS nsic_model_io)
nsic_test(model_pack_test SOURCES unit/model_pack_test.cc LIBS nsic_model_io nlohmann_json::nlohmann_json)

find_package(JPEG REQUIRED)
nsic_test(jpeg_simulation_test SOURCES unit/jpeg_simulation_test.cc LIBS nsic_training JPEG::JPEG)
nsic_test(fit_test SOURCES unit/fit_test.cc LIBS nsic_training)
foreach(test jpeg_simulation_test fit_test)
  target_precompile_headers(${test} REUSE_FROM nsic_arch)
endforeach()

nsic_test(train_cli_test SOURCES integration/train_cli_test.cc LIBS nsic_model_io PkgConfig::VIPS)
add_dependencies(train_cli_test nsic-train)
