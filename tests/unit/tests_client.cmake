nsic_test(client_text_test SOURCES unit/client_text_test.cc unit/client_progress_test.cc LIBS nsic_client)
nsic_test(client_inputs_test SOURCES unit/client_inputs_test.cc LIBS nsic_client)
nsic_test(client_video_test SOURCES unit/client_video_test.cc LIBS nsic_client)
nsic_test(client_options_test SOURCES unit/client_options_test.cc unit/client_process_test.cc LIBS nsic_client)
