#!/usr/bin/env bash
# Makes a corpus of photographs out of those in Debian's packages: landscapes, cities, flowers, rooms.
#
#   models/train/corpora/fetch_photographs.sh OUT     writes OUT/*.png and OUT/SOURCES
#
# Needs apt-get with package lists, dpkg and libvips-tools; nothing is installed. All were JPEGs: they are halved at least, which leaves
# little of their artefacts. The large ones come in two sizes. For training: nsic-train fit --data OUT --source "$(cat OUT/SOURCES)".
set -euo pipefail
shopt -s nullglob

[[ $# -eq 1 ]] || { echo "usage: fetch_photographs.sh OUT" >&2; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download endless-sky-data lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds plasma-workspace-wallpapers >&2
for package in *.deb; do dpkg -x "$package" x; done
cat >"$out/SOURCES" <<'SOURCES'
Debian 12 packages endless-sky-data (landscapes in the public domain, CC-BY-SA-3.0 and CC-BY-SA-4.0), lomiri-wallpapers-16.04 and -20.04 (CC-BY-4.0, CC-BY-SA-3.0 and CC-BY-SA-4.0), mate-backgrounds (GPL-2+ and CC-BY-SA), plasma-workspace-wallpapers (LGPL-3 and CC-BY-SA-4.0)
SOURCES

# photographs WIDTH FILE...: each, as wide, to OUT/<its name>-WIDTH.png
photographs() {
  local width=$1 file name
  shift
  for file in "$@"; do
    name=${file#x/usr/share/}
    name=${name%.*}
    vips thumbnail "$file" "$out/${name//\//_}-$width.png[strip]" "$width" --height 10000 --size down --export-profile srgb
  done
}
photographs 360 x/usr/share/games/endless-sky/images/land/*.jpg
# Among the wallpapers are drawings and pictures that a filter made look painted.
large=(x/usr/share/backgrounds/mate/nature/*.jpg
  x/usr/share/backgrounds/{Bridge,Dragonfly,Kleiber,Picture_1A,Wine,aitzgorri,friends,life,picosdeeuropa,seeding,sunset}_*.jpg
  x/usr/share/wallpapers/{BytheWater,ColdRipple,ColorfulCups,DarkestHour,EveningGlow,FallenLeaf,Grey,OneStandsOut,Path,summer_1am}/contents/images/2560x1600.jpg)
photographs 640 "${large[@]}"
photographs 480 "${large[@]}"
echo "$(find "$out" -name '*.png' | wc -l) photographs"
