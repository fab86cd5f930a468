#!/usr/bin/env bash
# Puts Apache Kafka into the cache, from Maven Central, each jar by its hash (kafka.sha256); offline once it is there.
# Takes: nothing (DCE_CACHE_DIR moves the cache), or `--learn` after a new version in kafka-pom.xml: writes kafka.sha256 anew.
# DCE_TEST_KAFKA_VERSION is another version than kafka-pom.xml's, with its hashes in kafka-VERSION.sha256.
# Gives: the folder of the jars as the last line of stdout. Maven's own downloads go into a folder that is removed again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

version="$(sed -n '/kafka_2.13/{n;s/.*<version>\(.*\)<\/version>.*/\1/p}' kafka-pom.xml)"
[[ -n "$version" ]] || die "deploy/setup/kafka-pom.xml does not say which kafka_2.13"
hashes="$PWD/kafka.sha256"
if [[ -n "${DCE_TEST_KAFKA_VERSION:-}" && "$DCE_TEST_KAFKA_VERSION" != "$version" ]]; then
  usual="$version" version="$DCE_TEST_KAFKA_VERSION" hashes="$PWD/kafka-$DCE_TEST_KAFKA_VERSION.sha256"
  [[ "${1:-}" == --learn || -f "$hashes" ]] || die "DCE_TEST_KAFKA_VERSION=$version: deploy/setup has no hashes of it"
fi
folder="$(cache)/kafka-$version"

# Are exactly the listed jars there, each with its hash? Says what differs.
verified() {
  (cd "$1" && sha256sum --check --quiet --strict "$hashes" >&2 && [[ "$(find . -type f | wc -l)" -eq "$(wc -l <"$hashes")" ]])
}

if [[ "${1:-}" != --learn && -d "$folder/libs" ]]; then
  if verified "$folder/libs"; then
    say "Kafka $version: in the cache"
    echo "$folder/libs"
    exit 0
  fi
  say "Kafka $version: the jars in the cache are not those of ${hashes##*/}, so they are fetched anew"
  rm -rf "$folder"
fi

need mvn "run deploy/setup/packages.sh test"
say "Kafka $version: fetching the jars from Maven Central (about 40 MB)"
scratch
sed "s/<version>${usual:-$version}</<version>$version</" kafka-pom.xml >"$SCRATCH/pom.xml"
mvn --quiet --batch-mode --file "$SCRATCH/pom.xml" "-Dmaven.repo.local=$SCRATCH/repository" \
  dependency:copy-dependencies "-DoutputDirectory=$SCRATCH/kafka/libs" >"$SCRATCH/maven.log" 2>&1 ||
  { tail -n 20 "$SCRATCH/maven.log" >&2; die "Maven could not fetch Kafka $version: its reason stands above"; }

if [[ "${1:-}" == --learn ]]; then
  (cd "$SCRATCH/kafka/libs" && LC_ALL=C sha256sum -- *.jar) >"$hashes"
  say "wrote $(wc -l <"$hashes") hashes to ${hashes##*/}: read its diff before you commit it"
  rm -rf "$folder"
fi
verified "$SCRATCH/kafka/libs" || die "Kafka $version: what Maven fetched is not what ${hashes##*/} lists; nothing was installed"
renamed_into "$SCRATCH/kafka" "$folder"
say "Kafka $version: now in the cache"
echo "$folder/libs"
