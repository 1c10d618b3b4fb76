#!/bin/bash
# usage: isa_symbols_test.sh TAG LIBRARY...
# A symbol that several objects define is linked once, from any of them. So an object compiled for
# AVX-512 must put the name of its set into all that it defines: or a plain machine could end up in it.
tag=$1
shift
defined=$(nm -C --defined-only --extern-only "$@" | awk 'NF >= 3') || exit
stray=$(grep -v "$tag" <<<"$defined")
if [ -z "$defined" ] || [ -n "$stray" ]; then
  echo "expected symbols that name $tag in $*. Received: ${stray:-none at all}"
  exit 1
fi
echo "$tag: $(wc -l <<<"$defined") symbols, all of which name it"
