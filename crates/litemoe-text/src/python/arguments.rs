use minijinja::value::{Kwargs, Value};
use minijinja::{Error, ErrorKind};

/// Binds the arguments of a call to the parameters of a Python function, by position or by name. Parameters that are not
/// given are `None`; so are those given as Python's `None`.
pub(super) fn bind<const N: usize>(
    names: [&str; N],
    args: &[Value],
) -> Result<[Option<Value>; N], Error> {
    let (positional, named) = match args.split_last() {
        Some((last, rest)) if !last.is_undefined() => match Kwargs::try_from(last.clone()) {
            Ok(named) => (rest, Some(named)),
            Err(_) => (args, None),
        },
        _ => (args, None),
    };
    if positional.len() > N {
        return Err(Error::from(ErrorKind::TooManyArguments));
    }
    let mut bound = [const { None }; N];
    for (parameter, value) in bound.iter_mut().zip(positional) {
        *parameter = Some(value.clone());
    }
    if let Some(named) = named {
        for (parameter, name) in bound.iter_mut().zip(names) {
            if named.has(name) {
                if parameter.is_some() {
                    return Err(invalid(&format!("`{name}` is given twice")));
                }
                *parameter = Some(named.get(name)?);
            }
        }
        named.assert_all_used()?;
    }
    Ok(bound.map(|value| value.filter(|value| !value.is_none())))
}

/// A parameter's value, or its default.
pub(super) fn or<T>(value: Option<Value>, default: T) -> Result<T, Error>
where
    T: TryFrom<Value, Error = Error>,
{
    value.map_or(Ok(default), T::try_from)
}

/// A parameter without a default.
pub(super) fn required(value: Option<Value>) -> Result<Value, Error> {
    value.ok_or_else(|| Error::from(ErrorKind::MissingArgument))
}

/// A parameter that is a text.
pub(super) fn str_arg(value: &Value) -> Result<&str, Error> {
    value.as_str().ok_or_else(|| invalid(&format!("expected a text, not {}", value.kind())))
}

pub(super) fn invalid(reason: &str) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.to_owned())
}
