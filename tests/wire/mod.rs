//! The records' bytes: schemas, golden records, JSON against the rules' reference, Avro against apache-avro.

mod schemas;
mod json_table;
mod json;
mod avro;
mod outputs;
mod golden;
mod dispatch;
mod framed;
