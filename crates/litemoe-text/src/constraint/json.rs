use llguidance::JsonCompileOptions;
use llguidance::api::GrammarWithLexer;
use serde_json::{Map, Value};

use super::GrammarError;
use super::schema::checked;

/// White space between JSON's tokens: a space, or a new line and its indentation. A model that likes white space cannot fill
/// its answer with it.
const JSON_SPACE: &str = r"( |\n{1,2}[ \t]{0,20})";

/// JSON's escapes except `\u`: each name has one spelling then, so that none is written twice in an object.
const JSON_ESCAPES: &str = "nrbtf\\\"";

/// A grammar of JSON by a schema, under a name.
pub(super) fn json_grammar(name: &str, schema: &Value) -> Result<GrammarWithLexer, GrammarError> {
    let mut schema = match checked(schema)? {
        Value::Bool(true) => Value::Object(Map::new()),
        Value::Bool(false) => {
            let reason = "the JSON schema `false` accepts nothing".to_owned();
            return Err(GrammarError::Refused { reason });
        }
        schema => schema,
    };
    let options = JsonCompileOptions {
        whitespace_pattern: Some(JSON_SPACE.to_owned()),
        json_allowed_escapes: Some(JSON_ESCAPES.to_owned()),
        ..JsonCompileOptions::default()
    };
    options.apply_to(&mut schema);
    let grammar = GrammarWithLexer::from_json_schema(schema);
    Ok(GrammarWithLexer { name: Some(name.to_owned()), ..grammar })
}
