//! Ends what a dead producer left open. A transaction that nobody ends holds up every reader of committed records, and the
//! next owner of its offsets, until the broker gives it up: its timeout, and up to ten seconds more.

use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext as _;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::producer::Producer as _;

use super::Deadline;
use super::client::{ClientSettings, Producer, ProducerEvents, TRANSACTION_TIMEOUT, Transactional, refusal_text};
use super::errors::{Call, CallError, TransactionError};

/// It writes nothing.
const BUFFER_KBYTES: u32 = 64;

#[derive(Debug, thiserror::Error)]
pub enum FenceError {
    #[error("the Kafka producer that would end the transaction of {id} cannot be made: {why}")]
    Client { id: String, why: String },
    #[error("the transaction of {id} was not ended within {:.1} s: {why}", waited.as_secs_f32())]
    NotEnded { id: String, waited: Duration, why: CallError },
}

/// Ends the open transaction of that transactional id, if there is one, within `wait`: its records are aborted, and its
/// offsets are not committed. Whoever has the id and lives is fenced: a fatal error at its next transaction.
///
/// Where one was open it takes half a second, the client's own wait for the markers.
pub fn fence(client: &ClientSettings, transactional_id: &str, wait: Duration) -> Result<(), FenceError> {
    let id = || transactional_id.to_owned();
    let transactional =
        Transactional { id: transactional_id, timeout: TRANSACTION_TIMEOUT, buffer_kbytes: BUFFER_KBYTES };
    let config = client.transactional(&transactional);
    let producer = Producer::from_config_and_context(&config, ProducerEvents::default())
        .map_err(|error| FenceError::Client { id: id(), why: refusal_text(&error) })?;
    let deadline = Deadline::after(wait);
    loop {
        let Err(error) = producer.init_transactions(deadline.remaining()) else { return Ok(()) };
        match CallError::from(&error).class(Call::Init) {
            // Somebody else has taken the id since, and ended what was open by that.
            TransactionError::Fatal(error)
                if matches!(
                    error.code,
                    RDKafkaErrorCode::Fenced
                        | RDKafkaErrorCode::ProducerFenced
                        | RDKafkaErrorCode::InvalidProducerEpoch
                ) =>
            {
                return Ok(());
            }
            TransactionError::Retry(_) if !deadline.passed() => {}
            TransactionError::Retry(why)
            | TransactionError::Abort(why)
            | TransactionError::Fatal(why)
            | TransactionError::UnknownOutcome(why) => {
                return Err(FenceError::NotEnded { id: id(), waited: deadline.elapsed(), why });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::mocking::MockCluster;
    use rdkafka::types::RDKafkaApiKey as Api;
    use rdkafka::types::RDKafkaRespErr as Answer;

    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_fence_waits_for_the_end_and_says_why_there_is_none() {
        let cluster = MockCluster::new(1).expect("a mock cluster");
        let client = ClientSettings::of(&cluster.bootstrap_servers());
        cluster.request_errors(Api::InitProducerId, &[Answer::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS; 2]);
        fence(&client, "app-0", WAIT).expect("it is ended at the third time");

        cluster.request_errors(Api::InitProducerId, &[Answer::RD_KAFKA_RESP_ERR_PRODUCER_FENCED]);
        fence(&client, "app-0", WAIT).expect("another one was faster");

        let answer = Answer::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        cluster.request_errors(Api::InitProducerId, &[answer]);
        let text = fence(&client, "app-0", WAIT).expect_err("not authorized").to_string();
        assert!(
            text.starts_with("the transaction of app-0 was not ended within") && text.contains("uthoriz"),
            "{text}"
        );

        let away = ClientSettings::of("127.0.0.1:1");
        let text = fence(&away, "app-0", Duration::from_millis(300)).expect_err("nobody is there").to_string();
        assert!(text.starts_with("the transaction of app-0 was not ended within 0.3 s"), "{text}");
    }
}
