//! `dce check` on a broker with access lists: what a worker lacks is said with the command that gives it, and a worker that
//! has all that was said, and its transactional ids, runs.

use std::collections::BTreeMap;
use std::process::Command;

use dce::kafka::Deadline;
use dce::kafka::client::ClientSettings;
use serde_json::Value;

use super::{Bank, at};
use crate::broker::Broker;
use crate::harness::{Bed, WAIT};

const PROPERTIES: &str = r#"
listener.security.protocol.map=BROKER:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
listener.name.broker.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required username="admin" password="of-admin" user_admin="of-admin" user_bank="of-bank";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:admin;User:ANONYMOUS
"#;

fn login(user: &str) -> [(String, String); 4] {
    [
        ("security.protocol", "sasl_plaintext".to_owned()),
        ("sasl.mechanism", "PLAIN".to_owned()),
        ("sasl.username", user.to_owned()),
        ("sasl.password", format!("of-{user}")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
}

/// Kafka's own command, by its administrator.
fn acls(bank: &Bank, arguments: &[&str]) {
    let file = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(bank.bed.name("admin.properties"));
    let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
    let jaas = format!("{module} required username=\"admin\" password=\"of-admin\";");
    std::fs::write(&file, format!("security.protocol=SASL_PLAINTEXT\nsasl.mechanism=PLAIN\nsasl.jaas.config={jaas}\n"))
        .unwrap();
    let output = Command::new(Broker::script())
        .args(["tool", "org.apache.kafka.tools.AclCommand", "--bootstrap-server", &bank.bed.settings.bootstrap])
        .args(["--command-config", file.to_str().unwrap()])
        .args(arguments)
        .output()
        .expect("Kafka's own commands");
    std::fs::remove_file(&file).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn check_says_each_right_that_is_missing_and_a_worker_runs_with_all_of_them() {
    let broker = Broker::with(PROPERTIES);
    let admin: BTreeMap<String, String> = login("admin").into_iter().collect();
    let settings = ClientSettings {
        common: admin.clone(),
        consumer: admin.clone(),
        producer: admin,
        ..ClientSettings::of(&broker.bootstrap)
    };
    let mut bank = Bank::on(Bed::by(settings, "rights"));
    let set = |user: &str| login(user).map(|(key, value)| format!("kafka.properties.{key}={value}"));
    let as_admin = set("admin");
    let create = ["topics", "create", "--partitions", "3", "--replication", "1"];
    let create: Vec<&str> = create.into_iter().chain(as_admin.iter().flat_map(|setting| ["--set", setting])).collect();
    let said = bank.say(&create);
    assert_eq!(said.code, 0, "{}", said.err);
    bank.settings.extend(set("bank"));

    let rows = |bank: &Bank| -> Vec<Value> {
        let said = bank.say(&["check", "--json"]);
        said.out.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    };
    let rights = |rows: &[Value], verdict: &str| -> Vec<Value> {
        let wanted = |row: &&Value| row["what"] == "rights" && row["verdict"] == verdict;
        rows.iter().filter(wanted).cloned().collect()
    };
    let missing = rights(&rows(&bank), "wrong");
    let found: Vec<&str> = missing.iter().map(|row| row["found"].as_str().unwrap()).collect();
    assert_eq!(
        found,
        [
            "this user has no right to Read on the topic clickstream",
            "this user has no right to Write on the topic embeddings",
            "this user has no right to Write on the topic embeddings_live",
            "this user has no right to Write on the topic sessions",
            "this user has no right to Write on the topic rejected",
            "this user has no right to Read on the topic state",
            "this user has no right to Write on the topic state",
            "this user has no right to Read on the group dce",
        ]
    );
    for row in &missing {
        let fix = row["fix"].as_str().unwrap();
        let words = fix.strip_prefix("kafka-acls.sh --bootstrap-server kafka-1:9092 ").unwrap();
        assert!(words.contains("--allow-principal User:bank "), "{words}");
        let (words, name) = words.rsplit_once(' ').unwrap();
        // The command's own text names the thing; what it was masked to is made its name again.
        let name = bank.bed.name(name);
        acls(&bank, &words.split(' ').chain([name.as_str()]).collect::<Vec<_>>());
    }
    // Brokers hear of it a moment later.
    let deadline = Deadline::after(2 * WAIT);
    loop {
        let rows = rows(&bank);
        if (rights(&rows, "wrong").len(), rights(&rows, "right").len()) == (0, 1) {
            break;
        }
        assert!(!deadline.passed(), "{rows:?}");
    }

    // Transactional ids cannot be asked for; a worker says it.
    let mut refused = bank.worker();
    assert_eq!(refused.wait().code(), Some(1), "{}", refused.said());
    assert!(refused.said().contains("ransactional"), "{}", refused.said());
    let ids = format!("{}-", bank.bed.name("dce"));
    let words =
        "--add --allow-principal User:bank --operation Write --resource-pattern-type prefixed --transactional-id";
    acls(&bank, &words.split(' ').chain([ids.as_str()]).collect::<Vec<_>>());
    let click = |id: &str, time: i64, kind: &str| {
        let value =
            format!(r#"{{"event_id":"{id}","customer_id":"ana","event_time":{time},"kind":"{kind}","name":"home"}}"#);
        at(0, "ana", &value, 1_000_000)
    };
    let clicks = [click("e1", 900_000, "LOGIN"), click("e2", 900_500, "LOGOUT")];
    bank.bed.produce(&bank.topic("clickstream"), clicks);
    let mut embeddings = bank.bed.collector(&bank.topic("embeddings"));
    let mut worker = bank.worker();
    while embeddings.look().is_empty() {
        assert!(!deadline.passed(), "{}", worker.said());
        if worker.ended().is_some() {
            worker = bank.worker();
        }
    }
    worker.signal("TERM");
    assert!(worker.wait().success(), "{}", worker.said());
}
