nsic_test(video_read_test SOURCES unit/video_read_test.cc LIBS nsic_video PkgConfig::FFMPEG TIMEOUT 300)
nsic_test(video_write_test SOURCES unit/video_convert_test.cc unit/video_plan_test.cc unit/video_write_test.cc
          LIBS nsic_video nsic_rows PkgConfig::FFMPEG TIMEOUT 300)
