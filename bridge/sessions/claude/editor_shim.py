"""What stands in for the editor that Ctrl-G opens in the TUI: how a prompt gets into the input box. Text.

The shim is a compare-and-set. It is handed a file with what stands in the box at that moment, and puts a
prompt there only where the box is empty or holds what the order expects; otherwise it takes a copy of what
it found and has the TUI keep its box (exit status 1). Without an order it was a person who pressed the key,
and their own editor opens.

One thing it cannot see: after a `!` of a person's the box is empty too, and what is put there then is run
by a shell, without a hook. So an order may be one to look only, with nothing to put; where it finds an empty
box, a Backspace right before the next Ctrl-G takes such a `!` away, and does nothing in any other empty box.

An order is a folder that the bridge moves to `order`: `put`, if it is not to look only, and maybe `expect-1`,
`expect-2` and so on; or `take`, which is taken away from the beginning of what stands there.
The shim moves it to `taken`, writes `found` and, where it put the prompt there, `placed`, and moves it to
`done`. Each `withdrawn-*` stands for a key of the bridge's that nothing shall open for any more, and is used
up by it.

What it is told by the environment: `BRIDGE_EDITOR`, the person's own editor, and `BRIDGE_EDITOR_FOR`, the
process of the TUI. (Names that begin with `CLAUDE_BRIDGE_` are settings, and an unknown one is refused.)
"""

EDITOR_COMMAND = '/bin/sh -c exec\t/bin/sh\t"$BRIDGE_EDITOR_SHIM"\t"$@" claude-bridge'
"""The value of EDITOR. The CLI splits it at spaces and knows no quotes, so that a path would have to be
without any; words that a shell reads may as well be apart by tabs."""

SHIM = r"""# Written by claude-bridge. The arguments are what the TUI gives its editor: the file comes last.
for file do :; done
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac

# With an exit status other than 0 the TUI keeps what stands in its box, whatever has become of the file.
order() {
  cp "$file" "$here/taken/was" && cp "$here/taken/was" "$here/taken/found" || return 1
  context=
  if head -n 1 "$file" | grep -q '^# ─── Claude.s last response (for reference; removed on save)'; then
    # A person's setting: what Claude said last stands above what stands in the box.
    context=1
    sed "1,/$below/d" "$file" | sed '1{/^$/d;}' >"$here/taken/found" || return 1
  fi
  place=
  if [ -e "$here/taken/take" ]; then
    size=$(($(wc -c <"$here/taken/take")))
    if head -c "$size" "$here/taken/found" | cmp -s "$here/taken/take" -; then
      tail -c "+$((size + 1))" "$here/taken/found" >"$here/taken/put" || return 1
      place=1
    fi
  fi
  # Kept as it is, the box also keeps what was typed before the TUI let go of the terminal.
  if [ ! -e "$here/taken/put" ]; then return 1; fi
  if [ ! -s "$here/taken/found" ]; then place=1; fi
  for expected in "$here"/taken/expect-*; do
    if [ -z "$place" ] && cmp -s "$expected" "$here/taken/found"; then place=1; fi
  done
  if [ -z "$place" ]; then return 1; fi
  if [ -e "$here/taken/still" ] && ! /bin/sh "$here/taken/still"; then return 1; fi
  if [ -n "$context" ]; then
    { sed "/$below/q" "$here/taken/was" && echo && cat "$here/taken/put"; } >"$file" || return 1
  else
    cat "$here/taken/put" >"$file" || return 1
  fi
  : >"$here/taken/placed"
}
below='^# ─── Write your reply below this line ─'

# Only the TUI itself is answered: programs that it runs inherit its editor.
if [ "$PPID" = "${BRIDGE_EDITOR_FOR:-$PPID}" ]; then
  # Under a name of its own first: moved onto a folder that an earlier shim left, it would land inside.
  if mv "$here/order" "$here/taken-$$" 2>/dev/null; then
    rm -rf "$here/taken" "$here/done"
    mv "$here/taken-$$" "$here/taken"
    order 2>/dev/null
    status=$?
    mv "$here/taken" "$here/done"
    exit "$status"
  fi
  if [ -d "$here/order" ]; then exit 1; fi # it cannot be taken; whoever pressed the key, nothing is lost
  for mark in "$here"/withdrawn-*; do
    if [ -e "$mark" ]; then
      rm -f "$mark"
      exit 0
    fi
  done
fi

case ${BRIDGE_EDITOR-} in
  code) BRIDGE_EDITOR='code -w' ;;
  subl) BRIDGE_EDITOR='subl --wait' ;;
esac
# Becomes the editor under this number: as long as that is open, the TUI does nothing else.
if [ "$PPID" = "${BRIDGE_EDITOR_FOR-}" ]; then echo "$$" 2>/dev/null >"$here/editing"; fi
if [ -n "${BRIDGE_EDITOR-}" ]; then
  export EDITOR="$BRIDGE_EDITOR" VISUAL="$BRIDGE_EDITOR"
  eval "exec $BRIDGE_EDITOR \"\$@\""
fi
unset EDITOR VISUAL
for editor in vi nano vim nvim emacs; do
  if command -v "$editor" >/dev/null 2>&1; then exec "$editor" "$@"; fi
done
echo "claude-bridge: there is no editor here; set EDITOR" >&2
exit 1
"""
