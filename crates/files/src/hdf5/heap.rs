//! Texts of any length: a data set of lengths and places, and heaps of the whole file that hold the texts themselves.

use std::collections::HashMap;
use std::io::{Read, Seek};
use std::ops::Range;

use super::Dataset;
use super::objects::{ELEMENT, Object};
use super::raw::{Fault, Fields, Raw, damaged, unsupported};
use crate::budget::Budget;
use crate::scalar::{Endian, Scalar};

/// Words of 32 bits of it.
const WORDS: usize = 4;
/// Memory for each byte of a heap: itself, and what it is in the table of what the heap holds.
const HEAP: usize = 8;
/// Bytes of the largest heap: a model's configuration is one text of some ten thousand.
const LARGEST: u64 = 1 << 22;

/// The texts of a data set of texts of any length, in its order.
///
/// # Errors
/// [`Fault`] if they are not where the data set says, or take more memory than the file warrants.
pub fn texts<R: Read + Seek>(
    raw: &mut Raw<R>,
    object: Object,
    budget: &mut Budget,
) -> Result<Vec<String>, Fault> {
    const WHAT: &str = "its texts";
    let mut dataset = Dataset::new(object, ELEMENT as usize)?;
    let count = dataset.dims.iter().try_fold(1usize, |n, &dim| n.checked_mul(usize::try_from(dim).ok()?));
    let count = count.filter(|count| count.checked_mul(WORDS).is_some());
    let count = count.ok_or_else(|| damaged("texts that are too many to count"))?;
    budget.take(WHAT, count, WORDS * size_of::<u32>() + size_of::<usize>() + size_of::<String>())?;
    dataset.split_elements(WORDS as u64);
    let mut words = vec![0u32; WORDS * count];
    dataset.read(raw, (Scalar::U32, Endian::Little), budget, &mut |start, run| {
        words[start..].iter_mut().zip(run).for_each(|(word, &value)| *word = value as u32);
    })?;
    let places = words.as_chunks::<WORDS>().0;
    let heap = |i: usize| u64::from(places[i][1]) | u64::from(places[i][2]) << 32;
    // Each heap is read once, however the texts lie in them.
    let mut order: Vec<usize> = (0..count).filter(|&i| places[i][0] > 0).collect();
    order.sort_unstable_by_key(|&i| heap(i));
    let mut texts = vec![String::new(); count];
    let mut read = 0;
    for same in order.chunk_by(|&a, &b| heap(a) == heap(b)) {
        let bytes = collection(raw, heap(same[0]), budget)?;
        // Heaps do not overlap in a sound file.
        read += bytes.len() as u64;
        if read > raw.length {
            return Err(damaged("heaps of texts that overlap"));
        }
        let objects = objects(&bytes, raw)?;
        for &i in same {
            let [length, .., number] = places[i];
            let text = objects.get(&number).and_then(|place| bytes.get(place.clone()));
            let text = text.and_then(|text| text.get(..length as usize));
            let text = text.ok_or_else(|| damaged(format!("text {i} is not in its heap")))?;
            budget.take(WHAT, text.len(), 1)?;
            texts[i] = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
        }
        budget.give_back(bytes.len(), HEAP);
    }
    Ok(texts)
}

/// The one text of any length that `place` says: its length, the address of its heap, and its number there.
pub(super) fn text<R: Read + Seek>(
    raw: &mut Raw<R>,
    place: &[u8],
    budget: &mut Budget,
) -> Result<String, Fault> {
    let mut fields = Fields::new(place, raw.sizes);
    let (length, address, number) = (fields.u32()? as usize, fields.number(8)?, fields.u32()?);
    if length == 0 {
        return Ok(String::new());
    }
    let bytes = collection(raw, address, budget)?;
    let text = objects(&bytes, raw)?.get(&number).and_then(|place| bytes.get(place.clone())?.get(..length));
    let text = text.ok_or_else(|| damaged("a text that is not in its heap"))?;
    budget.take("a text", length, 1)?;
    let text = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
    budget.give_back(bytes.len(), HEAP);
    Ok(text)
}

/// A global heap collection. Its bytes and the table of what it holds are taken from the budget, [`HEAP`] for each byte.
fn collection<R: Read + Seek>(raw: &mut Raw<R>, address: u64, budget: &mut Budget) -> Result<Vec<u8>, Fault> {
    let sizes = raw.sizes;
    let head = raw.bytes(address, 8 + sizes.length as u64)?;
    let mut fields = Fields::new(&head, sizes);
    fields.signature(b"GCOL")?;
    fields.skip(4)?;
    let size = fields.length()?;
    if size > LARGEST {
        return Err(unsupported(format!(
            "texts of {size} bytes, expected at most {LARGEST}; save shorter ones"
        )));
    }
    // Before memory is taken it is known to lie in the file.
    let mut part = raw.part(address, size)?;
    budget.take("a heap of texts", size as usize, HEAP)?;
    let mut bytes = vec![0; size as usize];
    part.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Where in a collection each of its objects lies, by its number.
fn objects<R>(collection: &[u8], raw: &Raw<R>) -> Result<HashMap<u32, Range<usize>>, Fault> {
    let head = 8 + raw.sizes.length;
    let mut fields = Fields::new(collection, raw.sizes);
    fields.skip(head)?;
    let mut objects = HashMap::new();
    while fields.left() >= head {
        let number = fields.u16()?;
        fields.skip(6)?;
        let size = usize::try_from(fields.length()?).unwrap_or(usize::MAX);
        if number == 0 {
            // What is free lies at the end.
            break;
        }
        let start = collection.len() - fields.left();
        fields.skip(size.checked_next_multiple_of(8).unwrap_or(usize::MAX))?;
        objects.insert(number.into(), start..start + size);
    }
    Ok(objects)
}
