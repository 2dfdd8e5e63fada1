nsic_test(tile_grid_test SOURCES unit/tile_grid_test.cc LIBS nsic_tile_grid)
nsic_test(engine_test SOURCES unit/engine_test.cc LIBS nsic_infer)
nsic_test(precision_test SOURCES unit/precision_test.cc LIBS nsic_infer nsic_arch)
target_precompile_headers(precision_test REUSE_FROM nsic_arch)
nsic_test(tile_stream_test SOURCES unit/tile_stream_test.cc LIBS nsic_infer nsic_arch)
target_precompile_headers(tile_stream_test REUSE_FROM nsic_arch)
nsic_test(networks_test SOURCES unit/networks_test.cc LIBS nsic_arch)
target_precompile_headers(networks_test REUSE_FROM nsic_arch)

find_package(ZLIB REQUIRED)  # the tests write checkpoints themselves
nsic_test(pth_reader_test SOURCES unit/pth_reader_test.cc LIBS nsic_model_io ZLIB::ZLIB)
nsic_test(import_checkpoint_test SOURCES unit/import_checkpoint_test.cc LIBS nsic_infer ZLIB::ZLIB)
# Threads that wait do not spin, so that tests that run beside others stay fast.
set_tests_properties(engine_test precision_test tile_stream_test import_checkpoint_test PROPERTIES ENVIRONMENT OMP_WAIT_POLICY=passive)

find_package(benchmark REQUIRED)
add_executable(engine_bench bench/engine_bench.cc)
target_link_libraries(engine_bench PRIVATE nsic_infer benchmark::benchmark)
add_executable(conv_bench bench/conv_bench.cc)
target_link_libraries(conv_bench PRIVATE nsic_arch nsic_conv_stack nsic_measure_peak OpenMP::OpenMP_CXX)
add_executable(ns_iqe_bench bench/ns_iqe_bench.cc)
target_link_libraries(ns_iqe_bench PRIVATE nsic_infer nsic_arch)
target_precompile_headers(ns_iqe_bench REUSE_FROM nsic_arch)
