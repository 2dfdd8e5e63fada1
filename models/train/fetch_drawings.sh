#!/usr/bin/env bash
# Makes a corpus of drawings out of art in Debian's packages: anime-like scenes, with characters composed over backgrounds.
#
#   models/train/fetch_drawings.sh OUT     writes OUT/train/*.png, OUT/val/*.png and OUT/SOURCES
#
# Needs apt-get with package lists, dpkg and libvips-tools; nothing is installed. Of each character every drawing is in one of the two
# folders, so that what is validated on was never learnt from. Pictures that were JPEGs are halved at least, which leaves nothing of their
# artefacts. For training: nsic-train fit --data OUT/train --val OUT/val --source "$(cat OUT/SOURCES)".
set -euo pipefail
shopt -s nullglob

[[ $# -eq 1 ]] || { echo "usage: fetch_drawings.sh OUT" >&2; exit 2; }
mkdir -p "$1/train" "$1/val"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download renpy-demo renpy-thequestion wesnoth-1.16-data plasma-workspace-wallpapers >&2
for package in *.deb; do dpkg -x "$package" x; done
cat >"$out/SOURCES" <<'SOURCES'
Debian 12 packages renpy-demo and renpy-thequestion (MIT and CC0 art), wesnoth-1.16-data (GPL-2+ and CC-BY-SA-4.0 art), plasma-workspace-wallpapers (LGPL-3, CC-BY-SA-4.0 and CC0 art)
SOURCES

renpy=x/usr/share/games/renpy
wesnoth=x/usr/share/games/wesnoth/1.16/data/core/images
wallpapers=x/usr/share/wallpapers

# background SET FILE...: each, covering a scene, to SET/bg-N.v
background() {
  local set=$1 file n=0
  shift
  mkdir -p "$set"
  for file in "$@"; do
    vips thumbnail "$file" "$set/bg-$((n++)).v[strip]" 768 --height 480 --crop centre --size both --export-profile srgb
  done
}
background train "$renpy"/demo/game/images/"bg cave.jpg" "$wesnoth"/story/landscape-*.jpg \
  "$wallpapers"/{Altai,Flow,Kay,Opal,Patak,Volna,Canopee,Cascade,Kite,SafeLanding,Shell,MilkyWay,Cluster,Honeywave}/contents/images/*1080x1920.* \
  "$wallpapers"/{DarkestHour,PastelHills,summer_1am}/contents/images/*x1600.*
background val "$renpy"/the_question/game/images/bg\ *.jpg "$wesnoth"/story/swamp-*.jpg "$wallpapers"/{FlyingKonqui,Elarun}/contents/images/*x1600.*

# scenes SET FILE...: each character in two scenes of SET, large to the left and smaller to the right
scenes() {
  local set=$1 file n=0 places backgrounds
  shift
  backgrounds=("$set"/bg-*.v)
  for file in "$@"; do
    for places in "460 20 40" "340 400 140"; do
      read -r size x y <<<"$places"
      vips thumbnail "$file" figure.v "$size" --height "$size"
      [[ $(vipsheader -f bands figure.v) -eq 4 ]] || continue  # a picture, not a character
      vips composite2 "${backgrounds[n % ${#backgrounds[@]}]}" figure.v scene.v over --x "$x" --y "$y"
      vips flatten scene.v "$out/$set/scene-$(printf %03d $n).png[strip]"
      n=$((n + 1))
    done
  done
}
scenes train "$renpy"/demo/game/images/{eileen,lucy}\ *.png "$wesnoth"/portraits/{humans,undead,monsters,orcs,merfolk,drakes,nagas,woses,saurians}/*
scenes val "$renpy"/the_question/game/images/sylvie\ *.png "$wesnoth"/portraits/{elves,dwarves,trolls,goblins}/*

# The backgrounds by themselves, for their own sake.
for set in train val; do
  for file in "$set"/bg-*.v; do vips copy "$file" "$out/$set/$(basename "${file%.v}").png[strip]"; done
done
echo "$(ls "$out/train" | wc -l) pictures to learn from, $(ls "$out/val" | wc -l) to validate on"
