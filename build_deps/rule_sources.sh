#!/bin/bash
# usage: rule_sources.sh TEMPLATE HEADER...
# Prints the template for rules: a line with @HEADER@ or @VARIANTS@ is there once for each header, with
# its path and with the name that it gives its variants in `using NameVariants = Variants<...>;`.
template=$1
shift
names=()
for header in "$@"; do
  name=$(sed -nE 's/^using (\w+Variants) =.*/\1/p' "$header")
  if [ "$(wc -w <<<"$name")" != 1 ]; then
    echo "$header must have one line \`using NameVariants = Variants<...>;\`. Received: ${name:-none}." >&2
    exit 1
  fi
  names+=("$name")
done
while IFS= read -r line; do
  if [[ $line != *@HEADER@* && $line != *@VARIANTS@* ]]; then
    printf '%s\n' "$line"
    continue
  fi
  for i in "${!names[@]}"; do
    each=${line//@HEADER@/${*:i+1:1}}
    printf '%s\n' "${each//@VARIANTS@/${names[i]}}"
  done
done <"$template"
