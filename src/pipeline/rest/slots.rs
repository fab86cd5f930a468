//! Where records lie that stay for long: in slots of few lengths, so that a place that becomes free fits the next record of
//! about that length, and nothing else. Bytes → [`Place`] → bytes. `[pure]`
//!
//! In the allocator's hands they would leave holes all over a memory of gigabytes, and whatever the worker needs for a moment
//! would be put there, far from the processor. Here the place that became free last is taken first.
//!
//! ```text
//!   class of 48 bytes   chunk │head id record··│head id record···│ free │ …     a free slot is the next one's
//!   class of 64 bytes   chunk │…                                                where a quarter is free, the last ones move
//! ```

/// Up to here a slot is up to 15 bytes longer than what lies in it, from there on up to an eighth of a power of two.
const EVEN_MAX: usize = 1_024;
const STEP: usize = 16;
/// Steps from one power of two to the next, above.
const STEPS: usize = 8;
/// About so many bytes are had at once.
const CHUNK_BYTES: usize = 256 << 10;
/// The length of the id in two bytes, that of the record in four.
const HEAD: usize = 6;
/// The processor has memory by so many.
const LINE_BYTES: usize = 64;
/// So that a chunk's records are still near when they are asked for.
const TOUCHED_BYTES_MAX: usize = 2 << 10;
/// In the place of the id's length where a slot is free; an id is at most 256 bytes long.
const FREE: u16 = u16::MAX;
/// So many free slots are none too many.
const HOLES: u32 = 64;
/// With one the holes would stay as many while the end comes nearer.
pub(super) const STEPS_A_FREE: usize = 2;

/// Where a record lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) class: u16,
    slot: u32,
}

#[derive(Debug, Default)]
pub(super) struct Slots {
    classes: Vec<Class>,
    /// Of all slots in use, and of the holes between them.
    pub(super) bytes: usize,
}

impl Slots {
    pub(super) fn put(&mut self, id: &[u8], record: &[u8]) -> Place {
        let class = class_of(HEAD + id.len() + record.len());
        while self.classes.len() <= class {
            self.classes.push(Class::new(self.classes.len()));
        }
        let of = &mut self.classes[class];
        let end = of.end;
        let slot = of.take();
        self.bytes += (of.end - end) as usize * of.len;
        let bytes = of.slot_mut(slot);
        bytes[..2].copy_from_slice(&u16::try_from(id.len()).unwrap_or(FREE - 1).to_le_bytes());
        bytes[2..HEAD].copy_from_slice(&u32::try_from(record.len()).unwrap_or(u32::MAX).to_le_bytes());
        bytes[HEAD..HEAD + id.len()].copy_from_slice(id);
        bytes[HEAD + id.len()..HEAD + id.len() + record.len()].copy_from_slice(record);
        Place { class: u16::try_from(class).unwrap_or(u16::MAX), slot }
    }

    /// Id and record.
    pub(super) fn get(&self, place: Place) -> (&[u8], &[u8]) {
        let bytes = self.classes[usize::from(place.class)].slot(place.slot);
        let id = usize::from(u16::from_le_bytes([bytes[0], bytes[1]]));
        let record = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]) as usize;
        let (id, rest) = bytes[HEAD..].split_at(id);
        (id, &rest[..record])
    }

    /// Reads a byte of each line of memory that the slot has, of a long one of the first ones: the processor goes on by itself.
    pub(super) fn touch(&self, place: Place) -> u8 {
        let bytes = self.classes[usize::from(place.class)].slot(place.slot);
        let bytes = &bytes[..bytes.len().min(TOUCHED_BYTES_MAX)];
        bytes.iter().step_by(LINE_BYTES).chain(bytes.last()).fold(0, |sum, byte| sum ^ byte)
    }

    /// Nothing of what lay there stays: it may be a customer's who asked for that.
    pub(super) fn free(&mut self, place: Place) {
        let class = &mut self.classes[usize::from(place.class)];
        let bytes = class.slot_mut(place.slot);
        bytes.fill(0);
        bytes[..2].copy_from_slice(&FREE.to_le_bytes());
        class.free.push(place.slot);
        class.holes += 1;
    }

    /// A step, of which [`STEPS_A_FREE`] are due after a place became free: where many are, the last record moves into a hole.
    /// Says from where to where.
    pub(super) fn close_up(&mut self, class: u16) -> Option<(Place, Place)> {
        let of = self.classes.get_mut(usize::from(class))?;
        if of.holes <= HOLES.min(of.slots) + of.end / 4 {
            return None;
        }
        let last = of.end - 1;
        let moved = (!of.is_free(last)).then(|| {
            let hole = of.hole();
            let bytes = of.slot(last).to_vec();
            of.slot_mut(hole).copy_from_slice(&bytes);
            of.slot_mut(last).fill(0);
            (Place { class, slot: last }, Place { class, slot: hole })
        });
        of.cut(last);
        self.bytes -= of.len;
        moved
    }
}

#[derive(Debug)]
struct Class {
    /// Of a slot.
    len: usize,
    /// Of a chunk.
    slots: u32,
    chunks: Vec<Vec<u8>>,
    /// Slots in use and holes between them.
    end: u32,
    /// Below the end.
    holes: u32,
    /// The holes, and some that are beyond the end by now: all are taken before the end grows again.
    free: Vec<u32>,
}

impl Class {
    fn new(class: usize) -> Self {
        let len = len_of(class);
        let slots = u32::try_from(CHUNK_BYTES / len).unwrap_or(u32::MAX).max(1);
        Self { len, slots, chunks: Vec::new(), end: 0, holes: 0, free: Vec::new() }
    }

    fn place(&self, slot: u32) -> (usize, usize) {
        ((slot / self.slots) as usize, (slot % self.slots) as usize * self.len)
    }

    fn slot(&self, slot: u32) -> &[u8] {
        let (chunk, at) = self.place(slot);
        &self.chunks[chunk][at..at + self.len]
    }

    fn slot_mut(&mut self, slot: u32) -> &mut [u8] {
        let (chunk, at) = self.place(slot);
        &mut self.chunks[chunk][at..at + self.len]
    }

    fn is_free(&self, slot: u32) -> bool {
        self.slot(slot)[..2] == FREE.to_le_bytes()
    }

    /// The hole that was made last; there is one.
    fn hole(&mut self) -> u32 {
        self.holes -= 1;
        loop {
            let slot = self.free.pop().expect("each hole is in the list");
            if slot < self.end {
                return slot;
            }
        }
    }

    fn take(&mut self) -> u32 {
        if self.holes > 0 {
            return self.hole();
        }
        self.free.clear();
        let slot = self.end;
        self.end += 1;
        let (chunk, at) = self.place(slot);
        if self.chunks.len() == chunk {
            // The first one grows as it is needed: there may be many partitions, each with little.
            self.chunks.push(if chunk == 0 { Vec::new() } else { Vec::with_capacity(self.len * self.slots as usize) });
        }
        let bytes = &mut self.chunks[chunk];
        bytes.resize(bytes.len().max(at + self.len), 0);
        slot
    }

    /// The end moves to there: that slot has moved, or was a hole.
    fn cut(&mut self, end: u32) {
        if self.is_free(end) {
            self.holes -= 1;
        }
        self.end = end;
        self.chunks.truncate(end.div_ceil(self.slots) as usize);
    }
}

fn class_of(len: usize) -> usize {
    if len <= EVEN_MAX {
        return len.div_ceil(STEP);
    }
    let power = (len - 1).ilog2();
    let step = (1 << power) / STEPS;
    EVEN_MAX / STEP + (power - EVEN_MAX.ilog2()) as usize * STEPS + (len - (1 << power)).div_ceil(step)
}

fn len_of(class: usize) -> usize {
    match class.checked_sub(EVEN_MAX / STEP + 1) {
        None => class.max(1) * STEP,
        Some(above) => {
            let power = EVEN_MAX << (above / STEPS);
            power + (above % STEPS + 1) * (power / STEPS)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slot_is_little_longer_than_what_lies_in_it() {
        for len in (1..5_000).chain([65_536, 65_537, 1 << 20, (64 << 20) + 300]) {
            let slot = len_of(class_of(len));
            let idle = if len <= EVEN_MAX { STEP - 1 } else { len / STEPS };
            assert!((len..=len + idle).contains(&slot), "{len} in {slot}");
            assert_eq!(class_of(slot), class_of(len), "{len}");
        }
    }

    proptest! {
        /// Many come and many go, again and again: each is found where it lies, and what became free is used or given back.
        #[test]
        fn it_holds_what_a_map_holds(
            work in proptest::collection::vec((0..1_000_u32, 0..1_000_usize, 0..=100_u32), 1..30),
        ) {
            let (mut slots, mut map, mut next) = (Slots::default(), BTreeMap::<String, (Place, Vec<u8>)>::new(), 0);
            for (come, len, stay) in work {
                for _ in 0..come {
                    next += 1;
                    let (id, record) = (format!("c{next}"), vec![u8::try_from(next % 251).unwrap(); len / 200 * 200]);
                    map.insert(id.clone(), (slots.put(id.as_bytes(), &record), record));
                }
                let goes = |id: &&String| id[1..].parse::<u32>().unwrap() * 7_919 % 100 >= stay;
                let goes: Vec<String> = map.keys().filter(goes).cloned().collect();
                for id in goes {
                    let (place, _) = map.remove(&id).unwrap();
                    slots.free(place);
                    for _ in 0..STEPS_A_FREE {
                        let Some((from, to)) = slots.close_up(place.class) else { continue };
                        let id = String::from_utf8(slots.get(to).0.to_vec()).unwrap();
                        let moved = map.get_mut(&id).expect("it is there");
                        assert_eq!(moved.0, from);
                        moved.0 = to;
                    }
                }
                for (id, (place, record)) in &map {
                    assert_eq!(slots.get(*place), (id.as_bytes(), &record[..]));
                }
                let used: usize = slots.classes.iter().map(|class| (class.end - class.holes) as usize).sum();
                assert_eq!(used, map.len());
                assert_eq!(slots.bytes, slots.classes.iter().map(|class| class.end as usize * class.len).sum::<usize>());
                for class in &slots.classes {
                    let beyond = class.chunks.iter().flatten().skip(class.end as usize * class.len);
                    assert!(beyond.copied().all(|byte| byte == 0 || byte == FREE.to_le_bytes()[0]), "what went stays nowhere");
                    let (used, chunks) = (class.end - class.holes, u32::try_from(class.chunks.len()).unwrap());
                    assert!(class.holes <= HOLES + class.end / 4, "{} of {}", class.holes, class.end);
                    assert!(chunks * class.slots < used * 2 + 2 * HOLES + 2 * class.slots);
                }
            }
        }
    }
}
