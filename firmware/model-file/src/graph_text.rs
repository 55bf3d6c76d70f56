//! Checks the text of a network before tract parses it.
//!
//! NNEF is a language: brackets and signs nest, fragments call fragments, operators of the
//! standard library make tensors of any size. tract's parser takes exponential time for
//! nested brackets (some 20 of them never end) and the stack for the rest, which no error
//! handling catches. A network of ours needs none of it, so what it may be is spelt out here
//! and anything else is refused in linear time:
//!
//! ```text
//! document   = "version" number ";" { extension } [ properties ] graph
//! extension  = "extension" name name ";"
//! properties = "fragment tract_core_properties() -> (properties: (string, tensor<scalar>)[])
//!              { properties = [" pair { "," pair } "]; }"
//! pair       = "(" string "," string ")"
//! graph      = "graph" name "(" names ")" "->" "(" names ")" "{" { assignment } "}"
//! assignment = name "=" operator [ "<scalar>" ] "(" argument { "," argument } ")" ";"
//! argument   = name "=" ( scalar | "[" [ scalar { "," scalar } ] "]" )
//! scalar     = name | number | string
//! ```

use resight_base::text::printable;

/// Largest text of a network, in bytes; that of a ResNet-152 has some 150 kB.
const MAX_SIZE: usize = 4 << 20;

/// Most layers of a network. A ResNet-152 has some 200, and what loads one may take time that grows with
/// the square of their number.
const MAX_LAYERS: usize = 4000;

/// Most tensors that a network names: those of its weights, and its inputs. A model file has no more
/// members, and a convolution has four.
const MAX_TENSORS: usize = 4 * MAX_LAYERS;

/// The operators that a network may use besides those of resight.
const OPERATORS: [&str; 2] = ["variable", "tract_core_external"];

/// The operators of resight begin so; tract refuses those that do not exist.
const OPERATOR_PREFIX: &str = "resight_";

/// Why a text is no network of resight.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphTextError {
    #[error("a network of over {} MiB of text", MAX_SIZE >> 20)]
    Size,
    #[error("not UTF-8 text")]
    Encoding,
    #[error("line {line}: {expected} is expected, found {found}; this is no network that resight wrote")]
    Syntax {
        /// From 1.
        line: usize,
        expected: &'static str,
        found: String,
    },
}

/// Checks the content of `graph.nnef`.
///
/// # Errors
/// The line and what is wrong with it.
pub(crate) fn check_graph(bytes: &[u8]) -> Result<(), GraphTextError> {
    if bytes.len() > MAX_SIZE {
        return Err(GraphTextError::Size);
    }
    let text = str::from_utf8(bytes).map_err(|_| GraphTextError::Encoding)?;
    let mut reader = Reader { rest: text };
    reader.document().map_err(|expected| {
        let line = text[..text.len() - reader.rest.len()].matches('\n').count() + 1;
        let found: String = reader.rest.chars().take(24).collect();
        let found = if found.is_empty() { "the end".to_string() } else { format!("`{}`", printable(&found)) };
        GraphTextError::Syntax { line, expected, found }
    })
}

/// What tract skips between words.
const SPACE: [char; 4] = [' ', '\t', '\r', '\n'];

/// What was expected where reading stopped.
type Expected = &'static str;

struct Reader<'a> {
    rest: &'a str,
}

impl<'a> Reader<'a> {
    fn document(&mut self) -> Result<(), Expected> {
        self.word("version")?;
        self.number()?;
        self.symbol(";")?;
        while self.word("extension").is_ok() {
            self.name()?;
            self.name()?;
            self.symbol(";")?;
        }
        if self.word("fragment").is_ok() {
            self.properties()?;
        }
        self.word("graph")?;
        self.name()?;
        self.list("(", ")", Self::name)?;
        self.symbol("->")?;
        self.list("(", ")", Self::name)?;
        self.symbol("{")?;
        let (mut layers, mut tensors) = (0, 0);
        while self.symbol("}").is_err() {
            if layers == MAX_LAYERS {
                return Err("the end of a network of 4000 layers");
            }
            if tensors == MAX_TENSORS {
                return Err("the end of a network of 16000 tensors");
            }
            let is_layer = self.assignment()?;
            layers += usize::from(is_layer);
            tensors += usize::from(!is_layer);
        }
        self.skip_space();
        if self.rest.is_empty() { Ok(()) } else { Err("the end") }
    }

    fn properties(&mut self) -> Result<(), Expected> {
        self.word("tract_core_properties")?;
        for symbol in
            ["(", ")", "->", "(", "properties", ":", "(", "string", ",", "tensor", "<", "scalar", ">"]
        {
            self.symbol(symbol)?;
        }
        for symbol in [")", "[", "]", ")", "{", "properties", "="] {
            self.symbol(symbol)?;
        }
        self.list("[", "]", |reader| {
            reader.symbol("(")?;
            reader.string()?;
            reader.symbol(",")?;
            reader.string()?;
            reader.symbol(")")
        })?;
        self.symbol(";")?;
        self.symbol("}")
    }

    /// Gives whether it is a layer.
    fn assignment(&mut self) -> Result<bool, Expected> {
        self.name()?;
        self.symbol("=")?;
        let before = self.rest;
        let operator = self.name()?;
        if !OPERATORS.contains(&operator) && !operator.starts_with(OPERATOR_PREFIX) {
            self.rest = before.trim_start_matches(SPACE);
            return Err("an operator of resight");
        }
        if self.symbol("<").is_ok() {
            self.word("scalar")?;
            self.symbol(">")?;
        }
        self.list("(", ")", |reader| {
            reader.name()?;
            reader.symbol("=")?;
            if reader.rest.trim_start_matches(SPACE).starts_with('[') {
                reader.list("[", "]", Self::scalar)
            } else {
                reader.scalar()
            }
        })?;
        self.symbol(";")?;
        Ok(operator.starts_with(OPERATOR_PREFIX))
    }

    fn scalar(&mut self) -> Result<(), Expected> {
        let scalar = self.number().is_ok() || self.string().is_ok() || self.name().is_ok();
        if scalar { Ok(()) } else { Err("a name, a number or a string") }
    }

    /// Items between brackets with commas between them; or none.
    fn list<T>(
        &mut self,
        open: &'static str,
        close: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T, Expected>,
    ) -> Result<(), Expected> {
        self.symbol(open)?;
        if self.symbol(close).is_ok() {
            return Ok(());
        }
        loop {
            item(self)?;
            if self.symbol(",").is_err() {
                return self.symbol(close);
            }
        }
    }

    fn symbol(&mut self, symbol: &'static str) -> Result<(), Expected> {
        self.skip_space();
        self.rest = self.rest.strip_prefix(symbol).ok_or(symbol)?;
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Result<(), Expected> {
        self.skip_space();
        let rest = self.rest.strip_prefix(word).ok_or(word)?;
        if rest.starts_with(|next: char| next.is_ascii_alphanumeric() || next == '_') {
            return Err(word);
        }
        self.rest = rest;
        Ok(())
    }

    /// A plain name, or any other as `i"name"`.
    fn name(&mut self) -> Result<&'a str, Expected> {
        self.skip_space();
        if self.rest.starts_with("i\"") {
            self.rest = &self.rest[1..];
            return self.string();
        }
        if self.rest.starts_with(|first: char| first.is_ascii_digit()) {
            return Err("a name");
        }
        match self.take(|next| next.is_ascii_alphanumeric() || next == '_') {
            "" => Err("a name"),
            name => Ok(name),
        }
    }

    fn number(&mut self) -> Result<(), Expected> {
        self.skip_space();
        let before = self.rest;
        self.rest = self.rest.strip_prefix('-').unwrap_or(self.rest);
        let digit = |next: char| next.is_ascii_digit();
        let mut valid = !self.take(digit).is_empty();
        if let Some(rest) = self.rest.strip_prefix('.') {
            self.rest = rest;
            valid &= !self.take(digit).is_empty();
        }
        if let Some(rest) = self.rest.strip_prefix('e') {
            self.rest = rest.strip_prefix('-').unwrap_or(rest);
            valid &= !self.take(digit).is_empty();
        }
        if !valid {
            self.rest = before;
            return Err("a number");
        }
        Ok(())
    }

    /// A string in double quotes; the content as it is written.
    fn string(&mut self) -> Result<&'a str, Expected> {
        self.skip_space();
        let content = self.rest.strip_prefix('"').ok_or("a string")?;
        let mut escaped = false;
        for (position, next) in content.char_indices() {
            match next {
                _ if next.is_control() => break,
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    self.rest = &content[position + 1..];
                    return Ok(&content[..position]);
                }
                // tract ends a string here, too.
                '\'' => break,
                _ => {}
            }
        }
        Err("a string that ends")
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|next| !belongs(next)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start_matches(SPACE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A chain of so many pools.
    fn chain(layers: usize) -> String {
        let pools: String = (0..layers)
            .map(|index| format!("  v{} = resight_max_pool(v{index}, size = [1, 1]);\n", index + 1))
            .collect();
        format!(
            "version 1.0;\n\ngraph net(v0) -> (v{layers}) {{\n  v0 = tract_core_external(shape = [1]);\n{pools}}}\n"
        )
    }

    #[test]
    fn a_network_of_too_many_layers_is_refused_before_it_is_loaded() {
        let named = |text: String| text.replace("max_pool(v", "max_pool(x = v");
        assert_eq!(check_graph(named(chain(MAX_LAYERS)).as_bytes()), Ok(()));
        let error = check_graph(named(chain(MAX_LAYERS + 1)).as_bytes()).unwrap_err().to_string();
        assert!(
            error.starts_with("line 4005: the end of a network of 4000 layers is expected, found"),
            "{error}"
        );
    }
}
