//! Protobuf's wire format, without decoding.

/// One field of a message.
pub(super) struct Field<'a> {
    pub(super) number: u64,
    /// All of it.
    pub(super) bytes: &'a [u8],
    /// What is in it, where it is delimited by its length.
    pub(super) content: Option<&'a [u8]>,
}

/// Takes the first field of a message; `None` where it is damaged.
pub(super) fn next<'a>(message: &mut &'a [u8]) -> Option<Field<'a>> {
    let whole = *message;
    let mut rest = whole;
    let tag = varint(&mut rest)?;
    let mut content = None;
    match tag & 7 {
        0 => {
            varint(&mut rest)?;
        }
        1 => rest = rest.get(8..)?,
        5 => rest = rest.get(4..)?,
        2 => {
            let length = usize::try_from(varint(&mut rest)?).ok()?;
            let (inside, behind) = rest.split_at_checked(length)?;
            content = Some(inside);
            rest = behind;
        }
        _ => return None,
    }
    *message = rest;
    Some(Field { number: tag >> 3, bytes: &whole[..whole.len() - rest.len()], content })
}

/// The message with `change` made to what is in each of its fields `number`; `None` where it is damaged.
pub(super) fn rewritten(
    mut message: &[u8],
    number: u64,
    mut change: impl FnMut(&[u8]) -> Option<Vec<u8>>,
) -> Option<Vec<u8>> {
    let mut changed = vec![];
    while !message.is_empty() {
        let field = next(&mut message)?;
        match field.content {
            Some(content) if field.number == number => {
                let content = change(content)?;
                put_varint(&mut changed, number << 3 | 2);
                put_varint(&mut changed, content.len() as u64);
                changed.extend(content);
            }
            _ => changed.extend_from_slice(field.bytes),
        }
    }
    Some(changed)
}

/// Takes a number of at most ten bytes.
fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..70).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

fn put_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_meant_changes() {
        // Field 1 the number 300, field 2 "ab", field 3 four bytes.
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 1, 2, 3, 4];
        let longer = |content: &[u8]| Some([content, &[b'c'; 200]].concat());
        let changed = rewritten(&message, 2, longer).unwrap();
        assert_eq!(changed[..7], [0x08, 0xac, 0x02, 0x12, 0xca, 0x01, b'a']);
        assert_eq!(changed[7 + 1 + 200..], [0x1d, 1, 2, 3, 4]);
        assert_eq!(rewritten(&message, 4, longer).unwrap(), message);
    }

    #[test]
    fn what_is_cut_off_is_damaged() {
        let message = [0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d, 1, 2, 3, 4];
        for length in [1, 2, 4, 5, 6, 8, 11] {
            assert!(rewritten(&message[..length], 9, |_| None).is_none(), "{length}");
        }
    }
}
