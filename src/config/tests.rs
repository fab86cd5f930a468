//! The configuration from outside: what is refused and how that is said, which layer wins, what the defaults are.

use expect_test::{Expect, expect};

use super::*;

/// Lines are `file: TOML line`, `env: NAME=value`, `set: key=value` or `flag: key=value`.
fn layers(script: &str) -> Layers {
    let mut layers = Layers::default();
    let mut file = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let (layer, rest) = line.split_once(": ").expect("a layer before every line");
        match layer {
            "file" => file = file + rest + "\n",
            "env" => {
                let (name, value) = rest.split_once('=').expect("NAME=value");
                layers.environment.insert(name.to_owned(), value.to_owned());
            }
            "set" => layers.sets.push(rest.to_owned()),
            "flag" => {
                let (key, value) = rest.split_once('=').expect("key=value");
                let key = Box::leak(key.to_owned().into_boxed_str());
                layers.flags.push(FlagSetting { flag: "--flag", key, value: value.to_owned() });
            }
            _ => panic!("no layer {layer}"),
        }
    }
    if !file.is_empty() {
        layers.file = Some(ConfigFile { name: "my.toml".to_owned(), text: file });
    }
    layers
}

pub(super) fn load(script: &str) -> Result<Config, ConfigError> {
    Config::load(&layers(script))
}

/// Each paragraph is refused; the snapshot shows with which words.
fn check_refused(scripts: &str, expected: Expect) {
    let mut said = String::new();
    for script in scripts.split("\n\n").map(str::trim).filter(|script| !script.is_empty()) {
        match load(script) {
            Err(error) => said = said + &error.to_string() + "\n",
            Ok(_) => panic!("accepted: {script}"),
        }
    }
    expected.assert_eq(&said);
}

#[test]
fn bad_values_are_refused_with_their_rule_and_origin() {
    let scripts = "
        set: encoding=xml

        set: encoding=

        set: delivery=at_most_once

        set: app.id=

        set: app.id=two words

        set: app.instance=a/b

        set: app.workers=0

        set: app.workers=65

        set: kafka.bootstrap=

        set: kafka.bootstrap=kafka

        set: kafka.bootstrap=kafka:0

        set: kafka.bootstrap=kafka:90000

        set: kafka.bootstrap=one:9092,,two:9092

        set: kafka.bootstrap=http://kafka/

        set: topics.clickstream=

        set: topics.embeddings=a b

        set: topics.rejected=..

        set: topics.sessions=clickstream

        set: topics.embeddings_live=customer-embeddings

        set: topics.embeddings_live=
        set: provisional.every_events=5

        set: session.gap=30

        set: session.gap=30 minutes

        set: session.gap=-5s

        set: session.gap=1.5h

        set: session.gap=1_000ms

        set: session.gap=26687997792d

        set: session.duration_max=99999999999999999999d

        file: session.allowed_lateness = 10

        file: session.future_max = true

        set: session.events_max=0

        set: session.events_max=many

        set: session.events_max=4294967296

        set: session.open_max=-1

        file: session.revisable_max = 1.5

        file: session.revisions_max = '64'

        set: session.idle_after=999ms

        set: provisional.every_events=-1

        set: embedding.labels=country

        set: embedding.labels=['country', 'country']

        set: embedding.labels=['']

        file: embedding.labels = [1]

        set: epoch.events_max=0

        set: epoch.events_max=1000001

        set: epoch.wait_max=3s

        set: model.path=

        set: inference.device=cuda:-1

        set: inference.threads=0

        set: http.listen=9464

        set: http.listen=localhost:9464

        set: http.listen=

        set: log.level=verbose

        set: log.level=info,rdkafka

        set: log.level=rdkafka=debug

        set: log.format=xml
    ";
    check_refused(
        scripts,
        expect![[r#"
        encoding = "xml" (from --set): must be "json", "avro" or "confluent"
        encoding = "" (from --set): must be "json", "avro" or "confluent"
        delivery = "at_most_once" (from --set): must be "exactly_once" or "at_least_once"
        app.id = "" (from --set): must be 1 to 120 of: letters, digits, '.', '_', '-'
        app.id = "two words" (from --set): must be 1 to 120 of: letters, digits, '.', '_', '-'
        app.instance = "a/b" (from --set): must be 1 to 120 of: letters, digits, '.', '_', '-'
        app.workers = 0 (from --set): must be a whole number from 1 to 64
        app.workers = 65 (from --set): must be a whole number from 1 to 64
        kafka.bootstrap = "" (from --set): must be host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092"
        kafka.bootstrap = "kafka" (from --set): must be host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092"
        kafka.bootstrap = "kafka:0" (from --set): must be host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092"
        kafka.bootstrap = "kafka:90000" (from --set): must be host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092"
        kafka.bootstrap = "one:9092,,two:9092" (from --set): must be host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092"
        kafka.bootstrap = "http://kafka/" (from --set): must be host:port, several separated by commas, such as "kafka-1:9092,kafka-2:9092"
        topics.clickstream = "" (from --set): must be the name of a topic: 1 to 249 of letters, digits, '.', '_', '-'
        topics.embeddings = "a b" (from --set): must be the name of a topic: 1 to 249 of letters, digits, '.', '_', '-'
        topics.rejected = ".." (from --set): must be the name of a topic: 1 to 249 of letters, digits, '.', '_', '-'
        topics.sessions = "clickstream" (from --set): must be another topic than topics.clickstream
        topics.embeddings_live = "customer-embeddings" (from --set): must be another topic than topics.embeddings
        topics.embeddings_live = "" (from --set): must be the name of a topic while provisional.every_events is above 0
        session.gap = "30" (from --set): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.gap = "30 minutes" (from --set): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.gap = "-5s" (from --set): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.gap = "1.5h" (from --set): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.gap = "1_000ms" (from --set): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.gap = "26687997792d" (from --set): must be at most 26687997791d
        session.duration_max = "99999999999999999999d" (from --set): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.allowed_lateness = 10 (from my.toml:1): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.future_max = true (from my.toml:1): must be a whole number and a unit (ms, s, m, h or d) in quotes, such as "30s"
        session.events_max = 0 (from --set): must be a whole number from 1 to 4294967295
        session.events_max = "many" (from --set): must be a whole number from 1 to 4294967295
        session.events_max = 4294967296 (from --set): must be a whole number from 1 to 4294967295
        session.open_max = -1 (from --set): must be a whole number from 1 to 4294967295
        session.revisable_max = 1.5 (from my.toml:1): must be a whole number from 1 to 4294967295
        session.revisions_max = "64" (from my.toml:1): must be a whole number from 1 to 4294967295
        session.idle_after = "999ms" (from --set): must be "0s" for never, or at least "1s"
        provisional.every_events = -1 (from --set): must be a whole number from 0 to 4294967295
        embedding.labels = "country" (from --set): must be a list of up to 16 different names of attributes, such as ["country"]
        embedding.labels = ["country", "country"] (from --set): must be a list of up to 16 different names of attributes, such as ["country"]
        embedding.labels = [""] (from --set): must be a list of up to 16 different names of attributes, such as ["country"]
        embedding.labels = [1] (from my.toml:1): must be a list of up to 16 different names of attributes, such as ["country"]
        epoch.events_max = 0 (from --set): must be a whole number from 1 to 1000000
        epoch.events_max = 1000001 (from --set): must be a whole number from 1 to 1000000
        epoch.wait_max = "3s" (from --set): must be at most 2s
        model.path = "" (from --set): must be the folder of a model bundle
        inference.device = "cuda:-1" (from --set): must be "cpu", "auto", or "cuda:N" with the number of a GPU, counted from 0 and at most 255, such as "cuda:0"
        inference.threads = 0 (from --set): must be a whole number from 1 to 256
        http.listen = "9464" (from --set): must be an IP address and a port, such as "127.0.0.1:9464" or "0.0.0.0:9464", or "off"
        http.listen = "localhost:9464" (from --set): must be an IP address and a port, such as "127.0.0.1:9464" or "0.0.0.0:9464", or "off"
        http.listen = "" (from --set): must be an IP address and a port, such as "127.0.0.1:9464" or "0.0.0.0:9464", or "off"
        log.level = "verbose" (from --set): must be error, warn, info, debug, trace or off, then parts with theirs, such as "info,rdkafka=warn"
        log.level = "info,rdkafka" (from --set): must be error, warn, info, debug, trace or off, then parts with theirs, such as "info,rdkafka=warn"
        log.level = "rdkafka=debug" (from --set): must be error, warn, info, debug, trace or off, then parts with theirs, such as "info,rdkafka=warn"
        log.format = "xml" (from --set): must be "text" or "json"
    "#]],
    );
}

#[test]
fn a_setting_that_does_not_exist_is_refused_with_the_likely_one() {
    let scripts = "
        file: [session]
        file: gap = '20m'
        file: evnts_max = 5

        file: [sesion]
        file: gap = '20m'

        file: [sesion]

        file: gap = '20m'

        file: session = 5

        file: kafka.properties = 'x'

        file: session.gap.ms = 5

        file: latency = 'low'

        env: DCE_SESSION__GP=20m

        env: DCE_SESSION_GAP=20m

        env: DCE_LOG_LEVEL=debug

        env: DCE_WHATEVER__X=1

        set: topics.embedding=x

        set: encodign=avro

        set: =5

        set: session.gap

        set: something.quite.different=5
    ";
    check_refused(
        scripts,
        expect![[r#"
            session.evnts_max (from my.toml:3): no such setting; did you mean session.events_max?
            sesion.gap (from my.toml:2): no such setting; did you mean session.gap?
            sesion (from my.toml:1): no such setting; did you mean session?
            gap (from my.toml:1): no such setting; did you mean session.gap?
            session = 5 (from my.toml:1): must be a table of settings, such as session.gap
            kafka.properties = "x" (from my.toml:1): must be a table of settings, such as kafka.properties."client.id"
            session.gap.ms (from my.toml:1): no such setting; did you mean session.gap?
            latency (from my.toml:1): no such setting; `dce config` prints all
            session.gp (from environment DCE_SESSION__GP): no such setting; did you mean DCE_SESSION__GAP?
            session_gap (from environment DCE_SESSION_GAP): no such setting; did you mean DCE_SESSION__GAP?
            log_level (from environment DCE_LOG_LEVEL): no such setting; did you mean DCE_LOG__LEVEL?
            whatever.x (from environment DCE_WHATEVER__X): no such setting; `dce config` prints all
            topics.embedding (from --set): no such setting; did you mean topics.embeddings?
            encodign (from --set): no such setting; did you mean encoding?
             (from --set): no such setting; `dce config` prints all
            --set session.gap: must be section.key=value, such as session.gap=20m
            something.quite.different (from --set): no such setting; `dce config` prints all
        "#]],
    );
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let scripts = "
        file: [session]
        file: gap = 20m

        file: gap = '20m

        file: [session]
        file: gap = '20m'
        file: gap = '30m'

        file: [session
    ";
    check_refused(
        scripts,
        expect![[r#"
        my.toml:2: not TOML: string values must be quoted, expected literal string
        my.toml:1: not TOML: invalid literal string, expected `'`
        my.toml:3: not TOML: duplicate key
        my.toml:1: not TOML: unclosed table, expected `]`
    "#]],
    );
}

#[test]
fn settings_of_librdkafka_that_dce_owns_are_refused_with_the_reason() {
    let scripts = "
        set: kafka.properties.bootstrap.servers=x:1

        set: kafka.properties.group.id=mine

        set: kafka.consumer_properties.enable.auto.commit=true

        set: kafka.consumer_properties.isolation.level=read_uncommitted

        set: kafka.consumer_properties.auto.offset.reset=latest

        set: kafka.consumer_properties.partition.assignment.strategy=range

        set: kafka.producer_properties.transactional.id=mine

        set: kafka.producer_properties.acks=1

        env: DCE_KAFKA__PRODUCER_PROPERTIES__TRANSACTION_TIMEOUT_MS=60000

        file: [kafka.consumer_properties]
        file: session.timeout.ms = 6000

        file: kafka.properties.debug = ['broker']
    ";
    check_refused(
        scripts,
        expect![[r#"
        kafka.properties.bootstrap.servers = "x:1" (from --set): must be left to dce: it is kafka.bootstrap
        kafka.properties.group.id = "mine" (from --set): must be left to dce: it is made of app.id and app.instance
        kafka.consumer_properties.enable.auto.commit = "true" (from --set): must be left to dce: offsets are committed in the epoch's transaction alone
        kafka.consumer_properties.isolation.level = "read_uncommitted" (from --set): must be left to dce: a worker that reads what is not committed would publish what never happened
        kafka.consumer_properties.auto.offset.reset = "latest" (from --set): must be left to dce: lost offsets must stop a worker instead of skipping or repeating records
        kafka.consumer_properties.partition.assignment.strategy = "range" (from --set): must be left to dce: partitions are handed over one by one, by cooperative-sticky
        kafka.producer_properties.transactional.id = "mine" (from --set): must be left to dce: it is made of app.id and app.instance
        kafka.producer_properties.acks = "1" (from --set): must be left to dce: transactions need all of them
        kafka.producer_properties.transaction.timeout.ms = "60000" (from environment DCE_KAFKA__PRODUCER_PROPERTIES__TRANSACTION_TIMEOUT_MS): must be left to dce: it must stay below the session's time-out, or a zombie's transaction outlives its partitions
        kafka.consumer_properties.session.timeout.ms = 6000 (from my.toml:2): must be 10000 or more, above the transaction's time-out
        kafka.properties.debug = ["broker"] (from my.toml:1): must be text, a number, true or false
    "#]],
    );
}

#[test]
fn a_secret_is_never_shown() {
    let layers = layers(
        "env: DCE_KAFKA__PROPERTIES__SASL_PASSWORD=hunter2
         set: kafka.consumer_properties.ssl.key.pem=hunter2",
    );
    let config = Config::load(&layers).unwrap();
    assert_eq!(config.kafka.producer.get("sasl.password"), Some("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    for setting in Settings::merge(&layers).unwrap().iter() {
        assert!(!setting.shown().contains("hunter2"), "{}", setting.key);
    }
    let error = load("file: kafka.properties.sasl.password = ['hunter2']").unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn later_layers_win() {
    let scripts = [
        "file: session.gap = '1m'",
        "env: DCE_SESSION__GAP=2m",
        "set: session.gap=3m",
        "set: session.gap=4m",
        "flag: session.gap=5m",
    ];
    assert_eq!(load("").unwrap().session.gap_ms, 30 * 60_000);
    for upto in 1..=scripts.len() {
        // The order in which they are given says nothing.
        let mut script = scripts[..upto].to_vec();
        script.sort_by_key(|line| !line.starts_with("set: "));
        assert_eq!(load(&script.join("\n")).unwrap().session.gap_ms, upto as u64 * 60_000, "{script:?}");
    }
}

#[test]
fn values_are_toml_where_that_has_the_settings_type_and_text_otherwise() {
    let config = load(
        r#"set: topics.clickstream=true
           set: topics.rejected="in-quotes"
           set: embedding.labels=["country", 'app_version']
           set: session.events_max=2_000
           set: session.gap= 90 s
           set: model.path=/models/a = b
           env: DCE_ENCODING=avro
           env: DCE_TOPICS__SESSIONS=5
           env: DCE_HTTP__LISTEN=off
           env: DCE_SERVICE_HOST=10.0.0.1
           env: DCE_TEST_BOOTSTRAP=localhost:9092
           env: SESSION__GAP=1s"#,
    )
    .unwrap();
    assert_eq!(config.topics.clickstream, "true");
    assert_eq!(config.topics.rejected, "in-quotes");
    assert_eq!(config.labels, ["country", "app_version"]);
    assert_eq!(config.session.events_max, 2_000);
    assert_eq!(config.session.gap_ms, 90_000);
    assert_eq!(config.model_path, PathBuf::from("/models/a = b"));
    assert_eq!(config.encoding, Encoding::Avro);
    assert_eq!(config.topics.sessions.as_deref(), Some("5"));
    assert_eq!(config.http_listen, None);
}

#[test]
fn the_widest_session_rules_are_accepted() {
    let config = load(
        "set: session.gap=26687997791d
         set: session.allowed_lateness=0ms
         set: session.future_max=0s
         set: session.duration_max=10000000s
         set: session.events_max=4294967295
         set: session.revisions_max=4294967295
         set: provisional.every_events=1",
    )
    .unwrap();
    assert_eq!(config.session.gap_ms, 26_687_997_791 * 86_400_000);
    assert_eq!(config.session.duration_max_ms, 10_000_000_000);
    assert_eq!(config.session.revisions_max, u32::MAX);
    assert_eq!(config.topics.embeddings_live.as_deref(), Some("customer-embeddings-live"));
}

#[test]
fn librdkafka_settings_reach_the_clients_that_they_are_for() {
    let config = load(
        r#"file: [kafka.properties]
           file: security.protocol = "ssl"
           file: "socket.keepalive.enable" = true
           file: linger.ms = 5
           file: [kafka.consumer_properties]
           file: fetch.wait.max.ms = 50
           file: client.id = "reader"
           env: DCE_KAFKA__PRODUCER_PROPERTIES__LINGER_MS=20
           set: kafka.properties.client.id=all"#,
    )
    .unwrap();
    let listed = |properties: &Properties| {
        properties.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(" ")
    };
    expect!["client.id=all linger.ms=5 security.protocol=ssl socket.keepalive.enable=true"]
        .assert_eq(&listed(&config.kafka.common));
    expect!["client.id=reader fetch.wait.max.ms=50 linger.ms=5 security.protocol=ssl socket.keepalive.enable=true"]
        .assert_eq(&listed(&config.kafka.consumer));
    expect!["client.id=all linger.ms=20 security.protocol=ssl socket.keepalive.enable=true"]
        .assert_eq(&listed(&config.kafka.producer));
}

#[test]
fn the_defaults_are_those_of_the_design() {
    let config = load("").unwrap();
    expect![[r#"
        Config {
            app: App {
                id: "dce",
                instance: "0",
                workers: 1,
            },
            kafka: Kafka {
                bootstrap: "localhost:9092",
                common: {},
                consumer: {},
                producer: {},
            },
            topics: Topics {
                clickstream: "clickstream",
                embeddings: "customer-embeddings",
                embeddings_live: None,
                sessions: None,
                rejected: "clickstream-rejected",
                state: "dce-state",
            },
            encoding: Json,
            delivery: ExactlyOnce,
            registry: None,
            session: SessionRules {
                gap_ms: 1800000,
                allowed_lateness_ms: 10000,
                future_max_ms: 300000,
                duration_max_ms: 43200000,
                events_max: 1000,
                open_max: 16,
                revisable_max: 8,
                revisions_max: 64,
                provisional_every_events: 0,
            },
            idle_after: None,
            labels: [],
            epoch: Epoch {
                events_max: 10000,
                wait_max: 2ms,
            },
            state: State {
                dir: None,
                cache_bytes: 536870912,
            },
            model_path: "models/bank-small",
            inference_threads: 1,
            inference_device: Cpu,
            http_listen: Some(
                127.0.0.1:9464,
            ),
            monitor: Monitor {
                window: 300s,
                lateness: 120s,
                false_alarm_every: 2592000s,
                segments_max: 100,
                listen: Some(
                    127.0.0.1:9465,
                ),
                link: None,
                alertmanagers: [],
                webhook: None,
                topics: DriftTopics {
                    windows: "drift-windows",
                    alerts: "drift-alerts",
                    references: "drift-references",
                    customers: "drift-customers",
                },
            },
            log: Log {
                level: Info,
                targets: [],
                format: Text,
            },
        }
    "#]]
    .assert_debug_eq(&config);
    assert_eq!(config.app.group_id(), "dce");
    assert_eq!([0, 2].map(|worker| config.app.transactional_id(worker)), ["dce-0", "dce-0-w2"]);
    assert_eq!([0, 2].map(|worker| config.app.group_instance_id(worker)), ["dce-0", "dce-0-w2"]);
}

#[test]
fn variables_that_are_not_text_matter_only_where_they_are_ours() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let bytes = || OsString::from_vec(vec![0xff]);
    let variables = [("HOME".into(), "/".into()), ("OTHER".into(), bytes()), (bytes(), "x".into())];
    assert_eq!(environment(variables).unwrap().len(), 1);
    let error = environment([("DCE_APP__ID".into(), bytes())]).unwrap_err();
    expect!["environment variable DCE_APP__ID: is not UTF-8"].assert_eq(&error.to_string());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = ConfigFile::read(std::path::Path::new("no/such.toml")).unwrap_err();
    expect!["configuration file no/such.toml cannot be read"].assert_eq(&error.to_string());
}
