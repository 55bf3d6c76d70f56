//! Tables of a flatbuffer, read in place with every offset checked: the bytes may be anything.
//!
//! The layout is that of <https://flatbuffers.dev/internals/>: numbers are little-endian, offsets are from
//! where they stand, and a table begins with the offset back to the list of its fields.

/// What is wrong with a flatbuffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("it ends before byte {0}, where something is said to be")]
    Short(usize),
    #[error("the fields of the table at byte {0} are not where it says")]
    Fields(usize),
    #[error("the text at byte {0} is no UTF-8")]
    Text(usize),
}

/// A number of a fixed size.
pub(super) trait Number: Sized {
    /// Its size in bytes.
    const SIZE: usize;

    /// Reads it from the first bytes, of which there are enough.
    fn read(bytes: &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($kind:ty),*) => {$(
        impl Number for $kind {
            const SIZE: usize = size_of::<$kind>();

            fn read(bytes: &[u8]) -> Option<Self> {
                bytes.first_chunk().map(|bytes| <$kind>::from_le_bytes(*bytes))
            }
        }
    )*};
}

numbers!(u8, i8, u16, i32, u32, f32, i64, u64);

/// The number at a byte.
fn number<T: Number>(bytes: &[u8], at: usize) -> Result<T, Damage> {
    bytes.get(at..).and_then(T::read).ok_or(Damage::Short(at.saturating_add(T::SIZE)))
}

/// Where an offset leads that stands at `at`.
fn follow(bytes: &[u8], at: usize) -> Result<usize, Damage> {
    let offset: u32 = number(bytes, at)?;
    let target = at.saturating_add(offset as usize);
    if target < bytes.len() { Ok(target) } else { Err(Damage::Short(target)) }
}

/// A table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the list of its fields begins, behind the two sizes.
    fields: usize,
    count: usize,
}

impl<'a> Table<'a> {
    /// The table that a file begins with.
    pub(super) fn root(bytes: &'a [u8]) -> Result<Table<'a>, Damage> {
        Self::new(bytes, follow(bytes, 0)?)
    }

    fn new(bytes: &'a [u8], at: usize) -> Result<Table<'a>, Damage> {
        let back: i32 = number(bytes, at)?;
        let list = i64::try_from(at).ok().and_then(|at| usize::try_from(at - i64::from(back)).ok());
        let list = list.ok_or(Damage::Fields(at))?;
        let size: u16 = number(bytes, list)?;
        if size < 4 || list.saturating_add(size.into()) > bytes.len() {
            return Err(Damage::Fields(at));
        }
        Ok(Self { bytes, at, fields: list + 4, count: (usize::from(size) - 4) / 2 })
    }

    /// Where a field is, if the table has it.
    fn field(&self, index: usize) -> Result<Option<usize>, Damage> {
        if index >= self.count {
            return Ok(None);
        }
        let offset: u16 = number(self.bytes, self.fields + 2 * index)?;
        Ok((offset != 0).then(|| self.at.saturating_add(offset.into())))
    }

    /// A number, or what stands for one that is left out.
    pub(super) fn number<T: Number>(&self, index: usize, default: T) -> Result<T, Damage> {
        self.field(index)?.map_or(Ok(default), |at| number(self.bytes, at))
    }

    /// A table within.
    pub(super) fn table(&self, index: usize) -> Result<Option<Table<'a>>, Damage> {
        let Some(at) = self.field(index)? else { return Ok(None) };
        Self::new(self.bytes, follow(self.bytes, at)?).map(Some)
    }

    /// The bytes of a list of elements of this size, and how many there are.
    fn list(&self, index: usize, size: usize) -> Result<(usize, &'a [u8]), Damage> {
        let Some(at) = self.field(index)? else { return Ok((0, &[])) };
        let at = follow(self.bytes, at)?;
        let count: u32 = number(self.bytes, at)?;
        let first = at + 4;
        let end = (count as usize).checked_mul(size).and_then(|length| first.checked_add(length));
        let list = end.and_then(|end| self.bytes.get(first..end));
        list.map(|list| (first, list)).ok_or(Damage::Short(end.unwrap_or(usize::MAX)))
    }

    /// Bytes; none where they are left out.
    pub(super) fn bytes(&self, index: usize) -> Result<&'a [u8], Damage> {
        self.list(index, 1).map(|(_, list)| list)
    }

    /// Text; empty where it is left out.
    pub(super) fn text(&self, index: usize) -> Result<&'a str, Damage> {
        let (at, list) = self.list(index, 1)?;
        std::str::from_utf8(list).map_err(|_| Damage::Text(at))
    }

    /// Numbers; none where they are left out.
    pub(super) fn numbers<T: Number>(&self, index: usize) -> Result<Vec<T>, Damage> {
        let (_, list) = self.list(index, T::SIZE)?;
        Ok(list.chunks_exact(T::SIZE).filter_map(T::read).collect())
    }

    /// Tables; none where they are left out.
    pub(super) fn tables(&self, index: usize) -> Result<Vec<Table<'a>>, Damage> {
        let (first, list) = self.list(index, 4)?;
        let places = (0..list.len() / 4).map(|place| first + 4 * place);
        places.map(|at| Self::new(self.bytes, follow(self.bytes, at)?)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of one i32 (7) and one list of two i32 (1, -1); the first field of three is left out.
    fn sample() -> Vec<u8> {
        let mut bytes = vec![];
        bytes.extend(20u32.to_le_bytes());
        // The list of fields at 4: its size, the table's, and three offsets.
        bytes.extend([10u16, 12, 0, 4, 8].map(u16::to_le_bytes).concat());
        bytes.resize(20, 0);
        bytes.extend(16i32.to_le_bytes());
        bytes.extend(7i32.to_le_bytes());
        // From 28 to the list at 32.
        bytes.extend(4u32.to_le_bytes());
        bytes.extend([2i32, 1, -1].map(i32::to_le_bytes).concat());
        bytes
    }

    #[test]
    fn fields_are_found_or_have_their_defaults() {
        let bytes = sample();
        let table = Table::root(&bytes).unwrap();
        assert_eq!(table.number(0, 3i32), Ok(3));
        assert_eq!(table.number(1, 3i32), Ok(7));
        assert_eq!(table.numbers::<i32>(2), Ok(vec![1, -1]));
        assert_eq!(table.numbers::<i32>(9), Ok(vec![]));
        assert_eq!(table.bytes(2), Ok(&bytes[36..38]));
    }

    #[test]
    fn every_cut_and_every_changed_byte_is_survived() {
        let bytes = sample();
        let read = |bytes: &[u8]| {
            let table = Table::root(bytes)?;
            table.number(1, 0i32)?;
            table.text(2)?;
            table.tables(2)?;
            table.numbers::<i64>(2)
        };
        for end in 0..bytes.len() {
            assert!(matches!(read(&bytes[..end]), Err(Damage::Short(_) | Damage::Fields(_))), "{end}");
        }
        for at in 0..bytes.len() {
            for value in 0..=255 {
                let mut changed = bytes.clone();
                changed[at] = value;
                let _ = read(&changed);
            }
        }
    }
}
