#!/usr/bin/env bash
# Puts Apicurio Registry into the cache, from Maven Central, by its hash; offline once it is there. For the tests alone.
# Takes: nothing (DCE_CACHE_DIR moves the cache). Gives: the program's folder as the last line of stdout: java -jar *-runner.jar.
# Maven's own downloads go into a folder that is removed again.
# The old plugin takes the archive alone: newer ones want its parent pom too, which not every mirror has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

# 3.0 is the last that Java 17 runs, which is what Debian's default is; 3.3 needs 21.
version=3.0.9
hash=2b28181501a20cbf6efcd77f9b7153908fc01f3d3a7c32024c0bd9e1b04c8a43
folder="$(cache)/apicurio-$version"

if [[ -f "$folder/apicurio-registry-app-$version-runner.jar" ]]; then
  say "Apicurio Registry $version: in the cache"
  echo "$folder"
  exit 0
fi

need mvn "run deploy/setup/packages.sh test"
say "Apicurio Registry $version: fetching it from Maven Central (109 MB)"
scratch
maven "Apicurio Registry $version" org.apache.maven.plugins:maven-dependency-plugin:2.8:copy \
  "-Dartifact=io.apicurio:apicurio-registry-app:$version:tar.gz:all" "-DoutputDirectory=$SCRATCH"
archive="$SCRATCH/apicurio-registry-app-$version-all.tar.gz"
sha256sum --check --quiet --strict <<<"$hash  $archive" >&2 ||
  die "Apicurio Registry $version: what Maven fetched is not what deploy/setup/apicurio.sh expects; nothing was installed"
mkdir "$SCRATCH/apicurio"
tar -xzf "$archive" -C "$SCRATCH/apicurio"
[[ -f "$SCRATCH/apicurio/apicurio-registry-app-$version-runner.jar" ]] || die "Apicurio Registry $version: the archive holds no runner jar"
renamed_into "$SCRATCH/apicurio" "$folder"
say "Apicurio Registry $version: now in the cache"
echo "$folder"
