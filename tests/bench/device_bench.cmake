# Built with the engine alone, too: for machines with a GPU (gpu.sh).
add_executable(device_bench ${CMAKE_SOURCE_DIR}/tests/bench/device_bench.cc)
target_link_libraries(device_bench PRIVATE nsic_infer nsic_arch ${CMAKE_DL_LIBS})
target_precompile_headers(device_bench REUSE_FROM nsic_arch)
