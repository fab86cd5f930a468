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
jars "Kafka $version" "about 40 MB" "$folder" "$hashes" kafka-pom.xml "s/<version>${usual:-$version}</<version>$version</" "${1:-}"
