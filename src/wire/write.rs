//! How records become bytes: each names its fields once, in its schema's order, and the two writers here put them down
//! as JSON (one object, no white space) or as Avro (single-object encoding, or framed by a schema registry's id). Takes
//! fields, gives bytes in a buffer that the caller reuses. Other forms (`files`) are other [`Fields`].

use std::borrow::Cow;

use crate::config::Encoding;

use super::avro::{self, Fingerprint};
use super::error::EncodeError;

/// A record that can be written.
pub trait Written {
    /// Of its present schema.
    const FINGERPRINT: Fingerprint;
    /// The present schema itself, as JSON.
    fn schema() -> Cow<'static, str>;

    /// Every field, in the schema's order.
    fn write(&self, out: &mut impl Fields) -> Result<(), EncodeError>;
}

/// What stands around a record's fields.
#[derive(Debug, Clone, Copy)]
pub enum Framing {
    Json,
    SingleObject,
    /// Of a schema registry.
    ById(u32),
}

impl Framing {
    pub fn of(encoding: Encoding) -> Result<Self, EncodeError> {
        match encoding {
            Encoding::Json => Ok(Self::Json),
            Encoding::Avro => Ok(Self::SingleObject),
            Encoding::Confluent => Err(EncodeError::NoId),
        }
    }
}

/// Appends the record's bytes to `out`; on an error `out` is as it was.
pub fn record<R: Written>(record: &R, framing: Framing, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let start = out.len();
    let written = match framing {
        Framing::Json => {
            out.push(b'{');
            let mut fields = JsonFields { out, first: true };
            record.write(&mut fields).map(|()| out.push(b'}'))
        }
        Framing::SingleObject => {
            out.extend_from_slice(&avro::MARKER);
            out.extend_from_slice(&R::FINGERPRINT.0);
            record.write(&mut AvroFields { out })
        }
        Framing::ById(id) => {
            out.push(0);
            out.extend_from_slice(&id.to_be_bytes());
            record.write(&mut AvroFields { out })
        }
    };
    written.inspect_err(|_| out.truncate(start))
}

/// What a record's fields are made of. Names are the schema's; what is optional is a union of null and the type.
pub trait Fields {
    fn text(&mut self, name: &'static str, text: &str);
    fn optional_text(&mut self, name: &'static str, text: Option<&str>);
    /// An `int`, a `long` or a time.
    fn integer(&mut self, name: &'static str, number: i64);
    fn optional_integer(&mut self, name: &'static str, number: Option<i64>);
    fn boolean(&mut self, name: &'static str, flag: bool);
    /// The symbol and its place in the schema's list.
    fn symbol(&mut self, name: &'static str, index: usize, symbol: &'static str);
    fn optional_symbol(&mut self, name: &'static str, symbol: Option<(usize, &'static str)>);
    fn float(&mut self, name: &'static str, number: f32) -> Result<(), EncodeError>;
    fn optional_double(&mut self, name: &'static str, number: Option<f64>) -> Result<(), EncodeError>;
    fn floats(&mut self, name: &'static str, numbers: &[f32]) -> Result<(), EncodeError>;
    fn texts<'t>(&mut self, name: &'static str, texts: impl ExactSizeIterator<Item = &'t str>);
    fn texts_by_name<'t>(&mut self, name: &'static str, texts: impl ExactSizeIterator<Item = (&'t str, &'t str)>);
    fn floats_by_name<'t>(
        &mut self,
        name: &'static str,
        floats: impl ExactSizeIterator<Item = (&'t str, &'t [f32])>,
    ) -> Result<(), EncodeError>;
    /// Null where there are none.
    fn optional_doubles(&mut self, name: &'static str, doubles: &[(Cow<'_, str>, f64)]) -> Result<(), EncodeError>;

    /// For counts, which cannot reach the limit in practice.
    fn unsigned(&mut self, name: &'static str, number: u64) -> Result<(), EncodeError> {
        let number = i64::try_from(number).map_err(|_| EncodeError::TooLarge { field: name, found: number })?;
        self.integer(name, number);
        Ok(())
    }
}

fn finite(field: &'static str, number: f64) -> Result<(), EncodeError> {
    if number.is_finite() { Ok(()) } else { Err(EncodeError::NotFinite { field, found: number }) }
}

fn all_finite(field: &'static str, numbers: &[f32]) -> Result<(), EncodeError> {
    numbers.iter().try_for_each(|number| finite(field, f64::from(*number)))
}

struct JsonFields<'o> {
    out: &'o mut Vec<u8>,
    first: bool,
}

impl JsonFields<'_> {
    /// Starts a member whose name needs no escapes.
    fn key(&mut self, name: &'static str) {
        if !std::mem::replace(&mut self.first, false) {
            self.out.push(b',');
        }
        self.out.push(b'"');
        self.out.extend_from_slice(name.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    /// Numbers with the fewest digits that read back to the same bits.
    fn put<T: serde::Serialize + ?Sized>(&mut self, value: &T) {
        serde_json::to_writer(&mut *self.out, value).expect("a buffer takes every number and string");
    }

    fn member<T: serde::Serialize + ?Sized>(&mut self, name: &'static str, value: &T) {
        self.key(name);
        self.put(value);
    }

    fn list<T>(&mut self, brackets: [u8; 2], items: impl Iterator<Item = T>, mut item: impl FnMut(&mut Self, T)) {
        self.out.push(brackets[0]);
        for (index, value) in items.enumerate() {
            if index > 0 {
                self.out.push(b',');
            }
            item(self, value);
        }
        self.out.push(brackets[1]);
    }

    fn put_floats(&mut self, numbers: &[f32]) {
        self.list(*b"[]", numbers.iter(), |json, number| json.put(number));
    }

    fn put_named(&mut self, name: &str) {
        self.put(name);
        self.out.push(b':');
    }
}

impl Fields for JsonFields<'_> {
    fn text(&mut self, name: &'static str, text: &str) {
        self.member(name, text);
    }

    fn optional_text(&mut self, name: &'static str, text: Option<&str>) {
        self.member(name, &text);
    }

    fn integer(&mut self, name: &'static str, number: i64) {
        self.member(name, &number);
    }

    fn optional_integer(&mut self, name: &'static str, number: Option<i64>) {
        self.member(name, &number);
    }

    fn boolean(&mut self, name: &'static str, flag: bool) {
        self.member(name, &flag);
    }

    fn symbol(&mut self, name: &'static str, _: usize, symbol: &'static str) {
        self.member(name, symbol);
    }

    fn optional_symbol(&mut self, name: &'static str, symbol: Option<(usize, &'static str)>) {
        self.member(name, &symbol.map(|(_, symbol)| symbol));
    }

    fn float(&mut self, name: &'static str, number: f32) -> Result<(), EncodeError> {
        finite(name, f64::from(number))?;
        self.member(name, &number);
        Ok(())
    }

    fn optional_double(&mut self, name: &'static str, number: Option<f64>) -> Result<(), EncodeError> {
        finite(name, number.unwrap_or_default())?;
        self.member(name, &number);
        Ok(())
    }

    fn floats(&mut self, name: &'static str, numbers: &[f32]) -> Result<(), EncodeError> {
        all_finite(name, numbers)?;
        self.key(name);
        self.put_floats(numbers);
        Ok(())
    }

    fn texts<'t>(&mut self, name: &'static str, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.key(name);
        self.list(*b"[]", texts, |json, text| json.put(text));
    }

    fn texts_by_name<'t>(&mut self, name: &'static str, texts: impl ExactSizeIterator<Item = (&'t str, &'t str)>) {
        self.key(name);
        self.list(*b"{}", texts, |json, (name, text)| {
            json.put_named(name);
            json.put(text);
        });
    }

    fn floats_by_name<'t>(
        &mut self,
        name: &'static str,
        floats: impl ExactSizeIterator<Item = (&'t str, &'t [f32])>,
    ) -> Result<(), EncodeError> {
        self.key(name);
        let mut checked = Ok(());
        self.list(*b"{}", floats, |json, (key, numbers)| {
            checked = checked.clone().and(all_finite(name, numbers));
            json.put_named(key);
            json.put_floats(numbers);
        });
        checked
    }

    fn optional_doubles(&mut self, name: &'static str, doubles: &[(Cow<'_, str>, f64)]) -> Result<(), EncodeError> {
        doubles.iter().try_for_each(|(_, number)| finite(name, *number))?;
        self.key(name);
        if doubles.is_empty() {
            self.put(&());
        } else {
            self.list(*b"{}", doubles.iter(), |json, (name, number)| {
                json.put_named(name);
                json.put(number);
            });
        }
        Ok(())
    }
}

struct AvroFields<'o> {
    out: &'o mut Vec<u8>,
}

impl AvroFields<'_> {
    /// Zigzag, seven bits a byte, the lowest first.
    #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "the encoding is of the bits")]
    fn put_long(&mut self, number: i64) {
        let mut bits = ((number << 1) ^ (number >> 63)) as u64;
        while bits > 0x7f {
            self.out.push(bits as u8 | 0x80);
            bits >>= 7;
        }
        self.out.push(bits as u8);
    }

    fn put_len(&mut self, len: usize) {
        self.put_long(i64::try_from(len).expect("no memory holds 2^63 bytes"));
    }

    fn put_text(&mut self, text: &str) {
        self.put_len(text.len());
        self.out.extend_from_slice(text.as_bytes());
    }

    /// The branch of a union of null and a type.
    fn put_branch<T>(&mut self, value: Option<T>) -> Option<T> {
        self.put_long(i64::from(value.is_some()));
        value
    }

    /// One block, and the empty one that ends every array and map.
    fn put_items<T>(&mut self, items: impl ExactSizeIterator<Item = T>, mut item: impl FnMut(&mut Self, T)) {
        if items.len() > 0 {
            self.put_len(items.len());
            for value in items {
                item(self, value);
            }
        }
        self.put_len(0);
    }

    fn put_floats(&mut self, numbers: &[f32]) {
        self.put_items(numbers.iter(), |avro, number| avro.out.extend_from_slice(&number.to_le_bytes()));
    }
}

impl Fields for AvroFields<'_> {
    fn text(&mut self, _: &'static str, text: &str) {
        self.put_text(text);
    }

    fn optional_text(&mut self, _: &'static str, text: Option<&str>) {
        if let Some(text) = self.put_branch(text) {
            self.put_text(text);
        }
    }

    fn integer(&mut self, _: &'static str, number: i64) {
        self.put_long(number);
    }

    fn optional_integer(&mut self, _: &'static str, number: Option<i64>) {
        if let Some(number) = self.put_branch(number) {
            self.put_long(number);
        }
    }

    fn boolean(&mut self, _: &'static str, flag: bool) {
        self.out.push(u8::from(flag));
    }

    fn symbol(&mut self, _: &'static str, index: usize, _: &'static str) {
        self.put_len(index);
    }

    fn optional_symbol(&mut self, _: &'static str, symbol: Option<(usize, &'static str)>) {
        if let Some((index, _)) = self.put_branch(symbol) {
            self.put_len(index);
        }
    }

    fn float(&mut self, name: &'static str, number: f32) -> Result<(), EncodeError> {
        finite(name, f64::from(number))?;
        self.out.extend_from_slice(&number.to_le_bytes());
        Ok(())
    }

    fn optional_double(&mut self, name: &'static str, number: Option<f64>) -> Result<(), EncodeError> {
        finite(name, number.unwrap_or_default())?;
        if let Some(number) = self.put_branch(number) {
            self.out.extend_from_slice(&number.to_le_bytes());
        }
        Ok(())
    }

    fn floats(&mut self, name: &'static str, numbers: &[f32]) -> Result<(), EncodeError> {
        all_finite(name, numbers)?;
        self.put_floats(numbers);
        Ok(())
    }

    fn texts<'t>(&mut self, _: &'static str, texts: impl ExactSizeIterator<Item = &'t str>) {
        self.put_items(texts, Self::put_text);
    }

    fn texts_by_name<'t>(&mut self, _: &'static str, texts: impl ExactSizeIterator<Item = (&'t str, &'t str)>) {
        self.put_items(texts, |avro, (name, text)| {
            avro.put_text(name);
            avro.put_text(text);
        });
    }

    fn floats_by_name<'t>(
        &mut self,
        name: &'static str,
        floats: impl ExactSizeIterator<Item = (&'t str, &'t [f32])>,
    ) -> Result<(), EncodeError> {
        let mut checked = Ok(());
        self.put_items(floats, |avro, (key, numbers)| {
            checked = checked.clone().and(all_finite(name, numbers));
            avro.put_text(key);
            avro.put_floats(numbers);
        });
        checked
    }

    fn optional_doubles(&mut self, name: &'static str, doubles: &[(Cow<'_, str>, f64)]) -> Result<(), EncodeError> {
        doubles.iter().try_for_each(|(_, number)| finite(name, *number))?;
        if let Some(doubles) = self.put_branch((!doubles.is_empty()).then_some(doubles)) {
            self.put_items(doubles.iter(), |avro, (name, number)| {
                avro.put_text(name);
                avro.out.extend_from_slice(&number.to_le_bytes());
            });
        }
        Ok(())
    }
}
