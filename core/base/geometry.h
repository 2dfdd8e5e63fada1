// Sizes and rectangles in pixels. x grows right, y grows down; a rectangle covers [x, x + width) x [y, y + height).
#ifndef NSIC_CORE_BASE_GEOMETRY_H_
#define NSIC_CORE_BASE_GEOMETRY_H_

#include <algorithm>
#include <cstdint>

namespace nsic {

struct Size {
  int width = 0;
  int height = 0;
  int64_t area() const { return int64_t{width} * height; }
  friend bool operator==(const Size& a, const Size& b) { return a.width == b.width && a.height == b.height; }
  friend bool operator!=(const Size& a, const Size& b) { return !(a == b); }
};

struct Rect {
  int x = 0;
  int y = 0;
  int width = 0;
  int height = 0;

  int right() const { return x + width; }
  int bottom() const { return y + height; }
  int64_t area() const { return int64_t{width} * height; }
  bool empty() const { return width <= 0 || height <= 0; }
  bool Contains(const Rect& other) const { return other.x >= x && other.y >= y && other.right() <= right() && other.bottom() <= bottom(); }
  friend bool operator==(const Rect& a, const Rect& b) { return a.x == b.x && a.y == b.y && a.width == b.width && a.height == b.height; }
  friend bool operator!=(const Rect& a, const Rect& b) { return !(a == b); }
};

// The common part of both, empty (width or height 0) when there is none.
inline Rect Intersect(const Rect& a, const Rect& b) {
  const int x = std::max(a.x, b.x);
  const int y = std::max(a.y, b.y);
  return {x, y, std::max(0, std::min(a.right(), b.right()) - x), std::max(0, std::min(a.bottom(), b.bottom()) - y)};
}

}  // namespace nsic

#endif  // NSIC_CORE_BASE_GEOMETRY_H_
