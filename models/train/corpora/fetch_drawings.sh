#!/usr/bin/env bash
# Makes a corpus of drawings out of art in Debian's packages: anime-like scenes, with characters composed over backgrounds.
#
#   models/train/corpora/fetch_drawings.sh OUT     writes OUT/train/*.png, OUT/val/*.png and OUT/SOURCES
#
# Needs apt-get with package lists, dpkg and libvips-tools; nothing is installed. Of each character every drawing is in one of the two
# folders, so that what is validated on was never learnt from. Pictures that were JPEGs are made smaller, most to 0.6 or less, which leaves
# little of their artefacts. For training: nsic-train fit --data OUT/train --val OUT/val --source "$(cat OUT/SOURCES)".
set -euo pipefail
shopt -s nullglob

[[ $# -eq 1 ]] || { echo "usage: fetch_drawings.sh OUT" >&2; exit 2; }
mkdir -p "$1/train" "$1/val"
out=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

apt-get download renpy-demo renpy-thequestion wesnoth-1.16-{data,did,dm,dw,ei,httt,l,low,nr,sof,sota,sotbe,thot,trow,tsg,ttb,utbs} \
  plasma-workspace-wallpapers openclipart-svg >&2
for package in *.deb; do dpkg -x "$package" x; done
cat >"$out/SOURCES" <<'SOURCES'
Debian 12 packages renpy-demo and renpy-thequestion (MIT and CC0 art), wesnoth-1.16-data and campaigns of that game (GPL-2+ and CC-BY-SA-4.0 art), plasma-workspace-wallpapers (LGPL-3, CC-BY-SA-4.0 and CC0 art), openclipart-svg (public domain)
SOURCES

renpy=x/usr/share/games/renpy
wesnoth=x/usr/share/games/wesnoth/1.16/data/core/images
campaigns=x/usr/share/games/wesnoth/1.16/data/campaigns
wallpapers=x/usr/share/wallpapers
clipart=x/usr/share/openclipart/svg

# background SET FILE...: each, covering a scene, to SET/bg-N.v. The packages' photographs, and those that a filter made look painted, are
# not among them.
background() {
  local set=$1 file n=0
  shift
  mkdir -p "$set"
  for file in "$@"; do
    vips thumbnail "$file" "$set/bg-$((n++)).v[strip]" 768 --height 480 --crop centre --size both --export-profile srgb
  done
}
train_wallpapers=("$wallpapers"/{Altai,Flow,Kay,Opal,Patak,Volna,Canopee,Cascade,Kite,SafeLanding,Shell,MilkyWay,Cluster,Honeywave}/contents/images/*1080x1920.*
  "$wallpapers"/PastelHills/contents/images/*x1600.*)
val_wallpapers=("$wallpapers"/{FlyingKonqui,Elarun}/contents/images/*x1600.*)
background train "$wesnoth"/story/landscape-{battlefield,bridge,castle,coast,hills-01,mountains-01,mountains-02,mountains-03,plain}.jpg \
  "$campaigns"/The_Rise_Of_Wesnoth/images/story/trow_{intro_0,story_}*.jpg "${train_wallpapers[@]}"
background val "$wesnoth"/story/{swamp-*,landscape-hills-02,landscape-mountains-04,landscape-mountains-05}.jpg "${val_wallpapers[@]}"

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
scenes train "$renpy"/demo/game/images/{eileen,lucy}\ *.png "$wesnoth"/portraits/{humans,undead,monsters,orcs,merfolk,drakes,nagas,woses,saurians}/* \
  "$campaigns"/{Under_the_Burning_Suns,The_Rise_Of_Wesnoth,Delfadors_Memoirs,Northern_Rebirth,The_South_Guard}/images/portraits/*.{png,webp} \
  "$campaigns"/{Descent_Into_Darkness,Dead_Water,Eastern_Invasion,Liberty,The_Hammer_of_Thursagan}/images/portraits/*.{png,webp}
scenes val "$renpy"/the_question/game/images/sylvie\ *.png "$wesnoth"/portraits/{elves,dwarves,trolls,goblins}/* \
  "$campaigns"/{Sceptre_of_Fire,Son_Of_The_Black_Eye}/images/portraits/*.{png,webp}

# cartoons SET FILE...: flat colours and clean lines, three drawings to a scene. What fails to render, is a strip, or holds pixels (most
# often a photograph's) is left out.
cartoons() {
  local set=$1 file n=0 placed=0 backgrounds places=("400 20 60" "300 300 160" "220 540 20")
  shift
  backgrounds=("$set"/flat/bg-*.v)
  for file in "$@"; do
    ! grep -q '<image' "$file" || continue
    read -r size x y <<<"${places[placed]}"
    vips thumbnail "$file" figure.v "$size" --height "$size" 2>/dev/null || continue
    [[ $(vipsheader -f bands figure.v) -eq 4 ]] || continue
    [[ $(vipsheader -f width figure.v) -gt $((size / 3)) && $(vipsheader -f height figure.v) -gt $((size / 3)) ]] || continue
    [[ $placed -gt 0 ]] || vips copy "${backgrounds[n % ${#backgrounds[@]}]}" scene.v
    vips composite2 scene.v figure.v next.v over --x "$x" --y "$y" && mv next.v scene.v
    placed=$(((placed + 1) % ${#places[@]}))
    [[ $placed -eq 0 ]] || continue
    vips flatten scene.v "$out/$set/cartoon-$(printf %03d $n).png[strip]"
    n=$((n + 1))
  done
}
background train/flat "${train_wallpapers[@]}"
background val/flat "${val_wallpapers[@]}"
cartoons train "$clipart"/{animals,buildings,food,transportation,recreation/{toys,party,holiday,sports}}{,/*}/*.svg
cartoons val "$clipart"/{people,plants}{,/*}/*.svg

# plates SET SCALE FILE...: drawings that fill the picture
plates() {
  local set=$1 scale=$2 file n=0
  shift 2
  for file in "$@"; do
    vips resize "$file" plate.v "$scale"
    [[ $(vipsheader -f bands plate.v) -ne 4 ]] || { vips flatten plate.v flat.v && mv flat.v plate.v; }
    vips copy plate.v "$out/$set/plate-$scale-$((n++)).png[strip]"
  done
}
plates train 0.5 "$campaigns"/{Secrets_of_the_Ancients,Legend_of_Wesmere,Descent_Into_Darkness,Liberty}/images/story/*.jpg
plates val 1 "$campaigns"/Two_Brothers/images/story/*.png
plates val 0.5 "$campaigns"/{Heir_To_The_Throne,The_South_Guard}/images/story/*.jpg

# The backgrounds by themselves, for their own sake.
for set in train val; do
  for file in "$set"/bg-*.v; do vips copy "$file" "$out/$set/$(basename "${file%.v}").png[strip]"; done
done
echo "$(ls "$out/train" | wc -l) pictures to learn from, $(ls "$out/val" | wc -l) to validate on"
