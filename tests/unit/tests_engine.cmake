nsic_test(tile_grid_test SOURCES unit/tile_grid_test.cc LIBS nsic_tile_grid)
