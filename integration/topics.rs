//! Topics on a real broker: made with their policies, and refused where they do not fit.

use dce::config::Topics;
use dce::kafka::conform::Role;
use dce::kafka::topics::{self, Inspector};
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use crate::harness::{Bed, WAIT};

#[test]
fn the_pipeline_s_topics_are_made_with_their_policies() {
    let bed = Bed::new("topics");
    let topics = Topics {
        clickstream: bed.name("clicks"),
        embeddings: bed.name("embeddings"),
        embeddings_live: Some(bed.name("live")),
        sessions: Some(bed.name("sessions")),
        rejected: bed.name("rejected"),
        state: bed.name("state"),
    };
    let inspector = Inspector::new(&bed.settings).unwrap();
    let error = inspector.check(&topics.clickstream, &topics.written(), WAIT).expect_err("nothing is there");
    let text = error.to_string();
    assert!(text.contains("do not exist on") && text.contains("--create-topics"), "{text}");
    assert!(text.contains(&format!("--create --topic {} --partitions N", topics.embeddings)), "{text}");

    let specs = Role::specs(&topics, 3, None, 300_000);
    let mut created = topics::create(&bed.settings, &specs, WAIT).unwrap();
    created.sort();
    let mut all: Vec<String> = specs.iter().map(|spec| spec.name.clone()).collect();
    all.sort();
    assert_eq!(created, all);
    assert_eq!(topics::create(&bed.settings, &specs, WAIT).unwrap(), Vec::<String>::new(), "they stay as they are");
    assert_eq!(inspector.check(&topics.clickstream, &topics.written(), WAIT).unwrap(), 3);

    let admin: AdminClient<DefaultClientContext> = bed.settings.inspector().create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for spec in &specs {
        let topic = [ResourceSpecifier::Topic(&spec.name)];
        let described = runtime.block_on(admin.describe_configs(&topic, &AdminOptions::new())).unwrap();
        let config = described.into_iter().next().unwrap().unwrap();
        for (key, value) in &spec.settings {
            let found = config.get(key).and_then(|entry| entry.value.as_deref());
            assert_eq!(found, Some(value.as_str()), "{} {key}", spec.name);
        }
    }

    let other = bed.topic("other", 2);
    let text = inspector.check(&topics.clickstream, &[&other], WAIT).expect_err("2 for 3").to_string();
    assert!(text.contains(&format!("has 3 partitions, but {other} has 2")), "{text}");
}
