//! The records on the topics, as structs, and their bytes: JSON and Avro. Takes bytes, gives records, and back; knows
//! nothing of Kafka. The schemas stand in `schemas/`, with golden records beside them. [pure]

pub mod click;
pub mod embedding;
