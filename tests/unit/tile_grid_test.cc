#include "core/farm/tile_grid.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace nsic {
namespace {

TEST(BlendWindowTest, NamesComeBack) {
  for (BlendWindow window : {BlendWindow::kNone, BlendWindow::kImprovedGaussian, BlendWindow::kGaussian, BlendWindow::kLinear,
                             BlendWindow::kCosine, BlendWindow::kPoisson, BlendWindow::kFeather}) {
    const Result<BlendWindow> parsed = ParseBlendWindow(BlendWindowName(window));
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    EXPECT_EQ(*parsed, window);
  }
  const Status unknown = ParseBlendWindow("hann").status();
  EXPECT_EQ(unknown.code(), StatusCode::kInvalidArgument);
  EXPECT_NE(unknown.message().find("improved-gaussian"), std::string::npos) << unknown;
}

TEST(TileSpecTest, Validate) {
  constexpr BlendWindow kNone = BlendWindow::kNone;
  constexpr BlendWindow kLinear = BlendWindow::kLinear;
  const struct {
    TileSpec spec;
    const char* error;  // a part of the message; empty for a valid spec
  } kRows[] = {
      {{256, 0, 0, 1, kNone}, ""},
      {{256, 22, 0, 2, kNone}, ""},
      {{256, 0, 64, 4, kLinear}, ""},
      {{3, 1, 0, 1, kNone}, ""},
      {{0, 0, 0, 1, kNone}, "tile is 0"},
      {{-4, 0, 0, 1, kNone}, "tile is -4"},
      {{1 << 20, 0, 0, 1, kNone}, "tile is 1048576"},
      {{256, 0, 0, 0, kNone}, "multiple 0"},
      {{254, 0, 0, 4, kNone}, "tile 254 is no multiple"},
      {{256, 21, 0, 2, kNone}, "halo 21 is no multiple"},
      {{256, -1, 0, 1, kNone}, "negative"},
      {{256, 128, 0, 1, kNone}, "more than twice halo 128"},
      {{256, 2'000'000'000, 0, 1, kNone}, "more than twice halo"},
      {{256, 0, 256, 1, kLinear}, "more than overlap 256"},
      {{256, 0, 64, 1, kNone}, "overlap needs a blend window"},
      {{256, 8, 64, 1, kLinear}, "exclude each other"},
      {{256, 0, 0, 1, kLinear}, "needs an overlap"},
  };
  for (size_t i = 0; i < std::size(kRows); ++i) {
    const Status status = kRows[i].spec.Validate();
    if (std::string(kRows[i].error).empty()) {
      EXPECT_TRUE(status.ok()) << "row " << i << ": " << status;
    } else {
      EXPECT_EQ(status.code(), StatusCode::kInvalidArgument) << "row " << i;
      EXPECT_NE(status.message().find(kRows[i].error), std::string::npos) << "row " << i << ": " << status;
    }
  }
}

TEST(TileGridTest, TilesOfKnownPictures) {
  const struct {
    Size picture;
    TileSpec spec;
    int column, row;
    int columns, rows;
    GridTile expected;
  } kRows[] = {
      // Exact halo: the output steps by tile - 2 halo, the input is clipped to the picture.
      {{1000, 500}, {256, 22, 0, 2, BlendWindow::kNone}, 0, 0, 5, 3, {{0, 0, 234, 234}, {0, 0, 212, 212}}},
      {{1000, 500}, {256, 22, 0, 2, BlendWindow::kNone}, 1, 1, 5, 3, {{190, 190, 256, 256}, {212, 212, 212, 212}}},
      {{1000, 500}, {256, 22, 0, 2, BlendWindow::kNone}, 4, 2, 5, 3, {{826, 402, 174, 98}, {848, 424, 152, 76}}},
      {{1, 1}, {256, 22, 0, 2, BlendWindow::kNone}, 0, 0, 1, 1, {{0, 0, 1, 1}, {0, 0, 1, 1}}},
      // Blended: steps of tile - overlap, the last tile moved back to the border.
      {{1000, 256}, {256, 0, 64, 4, BlendWindow::kLinear}, 0, 0, 5, 1, {{0, 0, 256, 256}, {0, 0, 256, 256}}},
      {{1000, 256}, {256, 0, 64, 4, BlendWindow::kLinear}, 3, 0, 5, 1, {{576, 0, 256, 256}, {576, 0, 256, 256}}},
      {{1000, 256}, {256, 0, 64, 4, BlendWindow::kLinear}, 4, 0, 5, 1, {{744, 0, 256, 256}, {744, 0, 256, 256}}},
      {{448, 257}, {256, 0, 64, 4, BlendWindow::kLinear}, 1, 1, 2, 2, {{192, 1, 256, 256}, {192, 1, 256, 256}}},
      {{100, 300}, {256, 0, 64, 4, BlendWindow::kLinear}, 0, 1, 1, 2, {{0, 44, 100, 256}, {0, 44, 100, 256}}},
  };
  for (size_t i = 0; i < std::size(kRows); ++i) {
    const TileGrid grid(kRows[i].picture, kRows[i].spec);
    EXPECT_EQ(grid.columns(), kRows[i].columns) << "row " << i;
    EXPECT_EQ(grid.rows(), kRows[i].rows) << "row " << i;
    const GridTile tile = grid.tile(kRows[i].column, kRows[i].row);
    EXPECT_EQ(tile.input, kRows[i].expected.input) << "row " << i;
    EXPECT_EQ(tile.output, kRows[i].expected.output) << "row " << i;
  }
}

// Pictures and packs of many sizes, with what must hold for all of them.
class TileGridProperty : public testing::Test {
 protected:
  struct Case {
    Size picture;
    TileSpec spec;
  };

  static std::vector<Case> Cases() {
    std::mt19937 random(7);
    const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    std::vector<Case> cases;
    for (int i = 0; i < 300; ++i) {
      Case c;
      c.picture = {pick(1, 200), pick(1, 200)};
      c.spec.multiple = 1 << pick(0, 2);
      if (i % 2 == 0) {
        c.spec.halo = pick(0, 4) * c.spec.multiple;
        c.spec.tile = 2 * c.spec.halo + pick(1, 12) * c.spec.multiple;
      } else {
        c.spec.tile = pick(1, 16) * c.spec.multiple + c.spec.multiple;
        c.spec.overlap = pick(1, c.spec.tile - 1);
        c.spec.blend = BlendWindow::kGaussian;
      }
      cases.push_back(c);
    }
    return cases;
  }

  static std::string Text(const Case& c) {
    return std::to_string(c.picture.width) + "x" + std::to_string(c.picture.height) + " tile " + std::to_string(c.spec.tile) + " halo " +
           std::to_string(c.spec.halo) + " overlap " + std::to_string(c.spec.overlap) + " multiple " + std::to_string(c.spec.multiple);
  }
};

TEST_F(TileGridProperty, OutputsCoverThePicture) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Text(c));
    ASSERT_TRUE(c.spec.Validate().ok()) << c.spec.Validate();
    const TileGrid grid(c.picture, c.spec);
    std::vector<int> covered(static_cast<size_t>(c.picture.area()));
    for (int row = 0; row < grid.rows(); ++row) {
      for (int column = 0; column < grid.columns(); ++column) {
        const GridTile tile = grid.tile(column, row);
        ASSERT_TRUE((Rect{0, 0, c.picture.width, c.picture.height}).Contains(tile.input));
        ASSERT_TRUE(tile.input.Contains(tile.output));
        ASSERT_FALSE(tile.output.empty());
        ASSERT_LE(tile.input.width, c.spec.tile);
        ASSERT_LE(tile.input.height, c.spec.tile);
        if (c.spec.blend == BlendWindow::kNone) {
          // Aligned, so that a network that works on cells of `multiple` pixels sees the cells of the whole picture.
          ASSERT_EQ(tile.input.x % c.spec.multiple, 0);
          ASSERT_EQ(tile.input.y % c.spec.multiple, 0);
        }
        for (int y = tile.output.y; y < tile.output.bottom(); ++y) {
          for (int x = tile.output.x; x < tile.output.right(); ++x) ++covered[static_cast<size_t>(y) * c.picture.width + x];
        }
      }
    }
    for (int times : covered) {
      if (c.spec.blend == BlendWindow::kNone) {
        ASSERT_EQ(times, 1);
      } else {
        ASSERT_GE(times, 1);
      }
    }
  }
}

TEST_F(TileGridProperty, TouchingFindsExactlyTheTilesThatTouch) {
  std::mt19937 random(11);
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Text(c));
    const TileGrid grid(c.picture, c.spec);
    const auto pick = [&](int low, int high) { return std::uniform_int_distribution<int>(low, high)(random); };
    Rect region;
    region.x = pick(0, c.picture.width - 1);
    region.y = pick(0, c.picture.height - 1);
    region.width = pick(1, c.picture.width - region.x);
    region.height = pick(1, c.picture.height - region.y);
    const TileGrid::Range range = grid.Touching(region);
    const Rect input = grid.InputFor(region);
    for (int row = 0; row < grid.rows(); ++row) {
      for (int column = 0; column < grid.columns(); ++column) {
        const bool touches = !Intersect(grid.tile(column, row).output, region).empty();
        const bool in_range = column >= range.first_column && column < range.last_column && row >= range.first_row && row < range.last_row;
        ASSERT_EQ(touches, in_range) << "tile " << column << ", " << row;
        if (touches) {
          ASSERT_TRUE(input.Contains(grid.tile(column, row).input));
        }
      }
    }
  }
}

TEST_F(TileGridProperty, TasksPartitionThePicture) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(Text(c));
    const TileGrid grid(c.picture, c.spec);
    for (int64_t target : {int64_t{0}, int64_t{1}, int64_t{100}, int64_t{2000}, int64_t{1} << 40}) {
      const std::vector<Rect> tasks = PlanTileTasks(grid, target);
      std::vector<int> covered(static_cast<size_t>(c.picture.area()));
      for (const Rect& task : tasks) {
        ASSERT_FALSE(task.empty());
        for (int y = task.y; y < task.bottom(); ++y) {
          for (int x = task.x; x < task.right(); ++x) ++covered[static_cast<size_t>(y) * c.picture.width + x];
        }
      }
      for (int times : covered) ASSERT_EQ(times, 1) << "target " << target;
      ASSERT_LE(static_cast<int64_t>(tasks.size()), grid.count());
      if (target >= c.picture.area()) {
        ASSERT_EQ(tasks.size(), 1u);
      }
      if (target <= 1) {
        ASSERT_EQ(static_cast<int64_t>(tasks.size()), grid.count());
      }
    }
  }
}

TEST(PlanTileTasksTest, TasksOfALargePictureHoldAboutTheTarget) {
  const TileGrid grid({20000, 5000}, {512, 22, 0, 2, BlendWindow::kNone});
  const std::vector<Rect> tasks = PlanTileTasks(grid, 4'000'000);
  EXPECT_GE(tasks.size(), 20u);
  EXPECT_LE(tasks.size(), 40u);
  for (const Rect& task : tasks) {
    EXPECT_GT(task.area(), 2'000'000);
    EXPECT_LT(task.area(), 6'000'000);
  }
}

}  // namespace
}  // namespace nsic
