//! Reads typed sections off the tree, so that every complaint knows its place.

use std::collections::btree_map;

use serde::{
    Deserializer,
    de::{self, DeserializeSeed, IntoDeserializer, MapAccess, SeqAccess, Unexpected, Visitor},
    forward_to_deserialize_any,
};

use super::{
    error::ReadError,
    tree::{Node, Place, Value},
};

pub(super) struct Reader<'a> {
    node: &'a Node,
    /// Dotted; empty for the root.
    path: String,
}

impl<'a> Reader<'a> {
    pub fn new(root: &'a Node) -> Self {
        Self { node: root, path: String::new() }
    }

    /// An untyped value as what the key wants it to be.
    fn parse<T: std::str::FromStr>(&self, text: &str, expected: &'static str) -> Result<T, ReadError> {
        text.parse().map_err(|_| de::Error::invalid_type(Unexpected::Str(text), &expected))
    }

    fn located<T>(&self, outcome: Result<T, ReadError>) -> Result<T, ReadError> {
        outcome.map_err(|error| error.at(&self.node.place, &self.path))
    }

    fn visit<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Table(table) => {
                visitor.visit_map(TableReader { entries: table.iter(), section: &self.path, value: None })
            }
            Value::Array(items) => visitor.visit_seq(ArrayReader { items: items.iter(), path: &self.path }),
            Value::Integer(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Boolean(value) => visitor.visit_bool(*value),
            Value::Text(text) | Value::Untyped(text) => visitor.visit_str(text),
        }
    }

    fn whole_number<'de, V: Visitor<'de>>(&self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Untyped(text) => self.parse(text, "u64").and_then(|number| visitor.visit_i64(number)),
            _ => self.visit(visitor),
        }
    }
}

macro_rules! whole_numbers {
    ($($method:ident)+) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
            self.located(self.whole_number(visitor))
        })+
    };
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        self.located(self.visit(visitor))
    }

    whole_numbers!(deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64);

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let outcome = match &self.node.value {
            Value::Untyped(text) => self.parse(text, "f64").and_then(|number| visitor.visit_f64(number)),
            _ => self.visit(visitor),
        };
        self.located(outcome)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let outcome = match &self.node.value {
            Value::Untyped(text) => self.parse(text, "a boolean").and_then(|value| visitor.visit_bool(value)),
            _ => self.visit(visitor),
        };
        self.located(outcome)
    }

    /// An empty variable or flag takes an optional key away.
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match &self.node.value {
            Value::Untyped(text) if text.is_empty() => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, ReadError> {
        let outcome = match &self.node.value {
            Value::Text(text) | Value::Untyped(text) => visitor.visit_enum(text.as_str().into_deserializer()),
            _ => self.visit(visitor),
        };
        self.located(outcome)
    }

    /// A list in a variable or a flag is parted by commas.
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        let Value::Untyped(text) = &self.node.value else { return self.deserialize_any(visitor) };
        let items: Vec<Node> = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty())
            .map(|item| Node { place: self.node.place.clone(), value: Value::Untyped(item.to_owned()) })
            .collect();
        let outcome = visitor.visit_seq(ArrayReader { items: items.iter(), path: &self.path });
        self.located(outcome)
    }

    forward_to_deserialize_any! {
        i128 u128 f32 char str string bytes byte_buf unit unit_struct tuple tuple_struct map struct identifier ignored_any
    }
}

struct TableReader<'a> {
    entries: btree_map::Iter<'a, String, Node>,
    section: &'a str,
    value: Option<Reader<'a>>,
}

impl<'de> MapAccess<'de> for TableReader<'_> {
    type Error = ReadError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, ReadError> {
        let Some((key, node)) = self.entries.next() else { return Ok(None) };
        let path = if self.section.is_empty() { key.clone() } else { format!("{}.{key}", self.section) };
        self.value = Some(Reader { node, path });
        seed.deserialize(KeyReader { key, place: &node.place, section: self.section }).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, ReadError> {
        match self.value.take() {
            Some(reader) => {
                let (node, path) = (reader.node, reader.path.clone());
                seed.deserialize(reader).map_err(|error| error.at(&node.place, &path))
            }
            None => Err(de::Error::custom("a value without a key")),
        }
    }
}

struct ArrayReader<'a> {
    items: std::slice::Iter<'a, Node>,
    path: &'a str,
}

impl<'de> SeqAccess<'de> for ArrayReader<'_> {
    type Error = ReadError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, ReadError> {
        self.items.next().map(|node| seed.deserialize(Reader { node, path: self.path.to_owned() })).transpose()
    }
}

struct KeyReader<'a> {
    key: &'a str,
    place: &'a Place,
    section: &'a str,
}

impl<'de> Deserializer<'de> for KeyReader<'_> {
    type Error = ReadError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        visitor.visit_str(self.key).map_err(|error: ReadError| error.at(self.place, self.section))
    }

    /// The number of a store, a node or a router.
    fn deserialize_u32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, ReadError> {
        match self.key.parse::<u32>() {
            Ok(id) if id > 0 => visitor.visit_u32(id),
            _ => {
                let error: ReadError =
                    de::Error::invalid_value(Unexpected::Str(self.key), &"a number from 1 to 4294967295 as its id");
                Err(error.at(self.place, self.section))
            }
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
