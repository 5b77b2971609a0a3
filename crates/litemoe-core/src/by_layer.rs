use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use crate::LayerId;

/// Deserializes a map keyed by layer; a duplicate layer is an error.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<BTreeMap<LayerId, T>, D::Error> {
    deserializer.deserialize_map(ByLayer(PhantomData))
}

struct ByLayer<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ByLayer<T> {
    type Value = BTreeMap<LayerId, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with a member for each layer")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut layers = BTreeMap::new();
        while let Some((layer, value)) = map.next_entry::<LayerId, T>()? {
            if layers.insert(layer, value).is_some() {
                return Err(M::Error::custom(format_args!("layer {layer} is there twice")));
            }
        }
        Ok(layers)
    }
}
