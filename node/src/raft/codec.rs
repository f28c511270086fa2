//! Bytes of everything that Raft stores or sends: a version byte, then MessagePack with named fields.
//!
//! Named fields let a later version add one without breaking this one; the version byte is for changes that named
//! fields cannot absorb. Trailing bytes are refused: MessagePack would ignore them silently.

use serde::{Serialize, de::DeserializeOwned};

/// The only format so far, on disk and between nodes.
pub(super) const FORMAT_VERSION: u8 = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum CodecError {
    #[error("no bytes at all")]
    Empty,
    #[error("format version {found}, this build reads version {FORMAT_VERSION}")]
    ForeignVersion { found: u8 },
    #[error("malformed MessagePack")]
    Malformed(#[source] rmp_serde::decode::Error),
    #[error("{count} bytes too many after the value")]
    Trailing { count: usize },
    #[error("cannot be written as MessagePack")]
    Unencodable(#[source] rmp_serde::encode::Error),
}

pub(super) fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CodecError> {
    let mut bytes = vec![FORMAT_VERSION];
    let mut serializer = rmp_serde::Serializer::new(&mut bytes).with_struct_map();
    value.serialize(&mut serializer).map_err(CodecError::Unencodable)?;
    Ok(bytes)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    let (&found, mut rest) = bytes.split_first().ok_or(CodecError::Empty)?;
    if found != FORMAT_VERSION {
        return Err(CodecError::ForeignVersion { found });
    }
    let value = T::deserialize(&mut rmp_serde::Deserializer::new(&mut rest)).map_err(CodecError::Malformed)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing { count: rest.len() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_torn_and_padded_bytes_are_told_apart() {
        let bytes = encode(&("slot", 7_u64)).unwrap();
        assert_eq!(decode::<(String, u64)>(&bytes).unwrap(), ("slot".to_owned(), 7));

        assert!(matches!(decode::<(String, u64)>(&[]), Err(CodecError::Empty)));
        assert!(matches!(decode::<(String, u64)>(&bytes[..bytes.len() - 1]), Err(CodecError::Malformed(_))));

        let mut padded = bytes.clone();
        padded.push(0);
        assert!(matches!(decode::<(String, u64)>(&padded), Err(CodecError::Trailing { count: 1 })));

        let mut foreign = bytes;
        foreign[0] = 9;
        let error = decode::<(String, u64)>(&foreign).unwrap_err();
        assert_eq!(error.to_string(), "format version 9, this build reads version 1");
    }
}
