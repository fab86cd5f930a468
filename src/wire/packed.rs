//! The bytes of internal records: numbers, texts and vectors one behind the other. Values ⇄ bytes.
//!
//! Numbers are varints (LEB128: seven bits a byte, the lowest first), texts and lists have their length before them,
//! floats are 4 bytes, little-endian, with all their bits.

/// Bytes that are no record of this kind: torn, foreign, or of another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {what}")]
pub struct Torn {
    /// Where reading ended.
    pub at: usize,
    pub what: &'static str,
}

/// Writes.
#[derive(Debug, Default)]
pub struct Packer {
    bytes: Vec<u8>,
}

impl Packer {
    /// Into a buffer that was used before.
    pub fn over(mut buffer: Vec<u8>) -> Self {
        buffer.clear();
        Self { bytes: buffer }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn byte(&mut self, byte: u8) {
        self.bytes.push(byte);
    }

    pub fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number.to_le_bytes()[0] | 0x80);
            number >>= 7;
        }
        self.bytes.push(number.to_le_bytes()[0]);
    }

    pub fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    /// Eight bytes: for hashes, which are large.
    pub fn fixed(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    pub fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// What was packed before, as it is.
    pub fn packed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub fn floats(&mut self, floats: &[f32]) {
        self.count(floats.len());
        self.bytes.extend(floats.iter().flat_map(|float| float.to_bits().to_le_bytes()));
    }

    /// A byte that says whether there is one, then it.
    pub fn option<T>(&mut self, option: Option<T>, pack: impl FnOnce(&mut Self, T)) {
        self.byte(u8::from(option.is_some()));
        if let Some(value) = option {
            pack(self, value);
        }
    }
}

/// Reads what a [`Packer`] wrote.
#[derive(Debug, Clone)]
pub struct Unpacker<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Unpacker<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub fn torn(&self, what: &'static str) -> Torn {
        Torn { at: self.at, what }
    }

    pub fn byte(&mut self) -> Result<u8, Torn> {
        let byte = self.bytes.get(self.at).copied().ok_or_else(|| self.torn("it ends early"))?;
        self.at += 1;
        Ok(byte)
    }

    pub fn number(&mut self) -> Result<u64, Torn> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            if shift == 63 && byte > 1 {
                return Err(self.torn("a number beyond 64 bits"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(self.torn("a number beyond 64 bits"))
    }

    pub fn number_u32(&mut self) -> Result<u32, Torn> {
        u32::try_from(self.number()?).map_err(|_| self.torn("a number beyond 32 bits"))
    }

    /// Of things of which each takes at least a byte: never more than there are bytes left.
    pub fn count(&mut self) -> Result<usize, Torn> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > self.bytes.len() - self.at {
            Err(self.torn("more of something than there are bytes"))
        } else {
            Ok(count)
        }
    }

    pub fn fixed(&mut self) -> Result<u64, Torn> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    pub fn text(&mut self) -> Result<&'a str, Torn> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.torn("a text that is not UTF-8"))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Torn> {
        let count = self.count()?;
        self.take(count)
    }

    pub fn floats(&mut self) -> Result<Box<[f32]>, Torn> {
        let count = self.count()?;
        let bytes = self.take(count.saturating_mul(4))?;
        let float = |bytes: &[u8]| f32::from_bits(u32::from_le_bytes(bytes.try_into().expect("chunks of four")));
        Ok(bytes.chunks_exact(4).map(float).collect())
    }

    pub fn option<T>(&mut self, unpack: impl FnOnce(&mut Self) -> Result<T, Torn>) -> Result<Option<T>, Torn> {
        match self.byte()? {
            0 => Ok(None),
            1 => Ok(Some(unpack(self)?)),
            _ => Err(self.torn("neither there nor not there")),
        }
    }

    pub fn list<T>(&mut self, mut unpack: impl FnMut(&mut Self) -> Result<T, Torn>) -> Result<Vec<T>, Torn> {
        let count = self.count()?;
        (0..count).map(|_| unpack(self)).collect()
    }

    /// All that is left, unread.
    pub fn remainder(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// That nothing is left.
    pub fn end(&self) -> Result<(), Torn> {
        if self.at == self.bytes.len() { Ok(()) } else { Err(self.torn("bytes behind its end")) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Torn> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end = end.ok_or_else(|| self.torn("it ends early"))?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            number: u64, small: u32, fixed: u64, text: String, bits: Vec<u32>, option: Option<u64>, list: Vec<String>,
        ) {
            let floats: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
            let mut packer = Packer::default();
            packer.number(number);
            packer.number(small.into());
            packer.fixed(fixed);
            packer.text(&text);
            packer.floats(&floats);
            packer.option(option, Packer::number);
            packer.count(list.len());
            list.iter().for_each(|text| packer.text(text));
            let bytes = packer.into_bytes();
            let mut from = Unpacker::new(&bytes);
            prop_assert_eq!(from.number(), Ok(number));
            prop_assert_eq!(from.number_u32(), Ok(small));
            prop_assert_eq!(from.fixed(), Ok(fixed));
            prop_assert_eq!(from.text(), Ok(&*text));
            let same: Vec<u32> = from.floats().unwrap().iter().map(|float| float.to_bits()).collect();
            prop_assert_eq!(same, bits);
            prop_assert_eq!(from.option(Unpacker::number), Ok(option));
            prop_assert_eq!(from.list(|from| from.text().map(str::to_owned)), Ok(list));
            prop_assert_eq!(from.end(), Ok(()));
        }

        #[test]
        fn no_bytes_make_it_panic_or_take_memory(bytes: Vec<u8>) {
            let mut from = Unpacker::new(&bytes);
            while from.list(|from| { from.floats()?; from.text()?; from.option(Unpacker::fixed) }).is_ok() {}
        }
    }

    #[test]
    fn a_number_has_64_bits() {
        let mut ten = [0xff_u8; 10];
        ten[9] = 1;
        assert_eq!(Unpacker::new(&ten).number(), Ok(u64::MAX));
        ten[9] = 2;
        assert!(Unpacker::new(&ten).number().is_err());
        assert_eq!(Unpacker::new(&[0x80]).number().unwrap_err().to_string(), "byte 1: it ends early");
    }
}
