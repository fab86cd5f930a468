#!/usr/bin/env bash
# Puts what benches/kafka_streams needs into the cache (Kafka Streams, ONNX Runtime for Java), from Maven Central, each jar by its hash
# (streams.sha256); offline once it is there.
# Takes: nothing (DCE_CACHE_DIR moves the cache), or `--learn` after a new version in kafka-pom.xml or streams-pom.xml: writes streams.sha256 anew.
# Gives: the folder of the jars as the last line of stdout. Maven's own downloads go into a folder that is removed again.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. ./common.sh

version="$(sed -n '/kafka_2.13/{n;s/.*<version>\(.*\)<\/version>.*/\1/p}' kafka-pom.xml)"
[[ -n "$version" ]] || die "deploy/setup/kafka-pom.xml does not say which kafka_2.13"
need javac "the comparison compiles its Java: install a JDK, 17 or newer, such as Debian's default-jdk-headless"
folder="$(cache)/kafka-streams-$version"
jars "Kafka Streams $version" "about 80 MB" "$folder" "$PWD/streams.sha256" streams-pom.xml "s/<version>KAFKA</<version>$version</" "${1:-}"
