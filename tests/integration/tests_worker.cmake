nsic_test(worker_parts_test SOURCES unit/worker_parts_test.cc LIBS nsic_worker PkgConfig::VIPS)
nsic_test(worker_test SOURCES integration/worker_test.cc LIBS nsic_worker PkgConfig::VIPS TIMEOUT 300)
nsic_test(worker_process_test SOURCES integration/worker_process_test.cc LIBS nsic_media nsic_model_io nsic_rpc PkgConfig::VIPS TIMEOUT 300)
add_dependencies(worker_process_test nsic-worker)

add_executable(video_bench bench/video_bench.cc)
target_link_libraries(video_bench PRIVATE nsic_worker)
nsic_test(restore_frames_test SOURCES unit/restore_frames_test.cc LIBS nsic_worker PkgConfig::FFMPEG)
