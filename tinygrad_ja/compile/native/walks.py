"""The walk over the tiles of a matrix product: which tile is computed when. It is the same text for all products; what differs is in its words.

A chunk has some batches, some rows of tiles and some columns of tiles. Columns go by in blocks, of which B stays in a cache; within a block k
goes by in pieces, of which a tile of A stays in the nearest cache; for each piece all rows go by, and for each row the columns of the block.
"""

from __future__ import annotations

from .target import named

_WALK = """
define void @NAME(ptr noalias %words, i64 %chunk, i64 %worker) {
entry:
WORDS
  ; chunk -> (block of batches, block of rows, block of columns)
  %cb = urem i64 %chunk, %column_blocks
  %rest = udiv i64 %chunk, %column_blocks
  %rb = urem i64 %rest, %row_blocks
  %bb = udiv i64 %rest, %row_blocks
  %j0 = mul i64 %cb, %columns_each
  %j1.all = add i64 %j0, %columns_each
  %j1 = call i64 @llvm.smin.i64(i64 %j1.all, i64 %columns)
  %i0 = mul i64 %rb, %rows_each
  %i1.all = add i64 %i0, %rows_each
  %i1 = call i64 @llvm.smin.i64(i64 %i1.all, i64 %rows)
  %n0 = mul i64 %bb, %batches_each
  %n1.all = add i64 %n0, %batches_each
  %n1 = call i64 @llvm.smin.i64(i64 %n1.all, i64 %batches)
  br label %batch
batch:
  %n = phi i64 [ %n0, %entry ], [ %n.next, %batch.end ]
  %n.more = icmp slt i64 %n, %n1
  br i1 %n.more, label %batch.body, label %end
batch.body:
  %outer = udiv i64 %n, %batches_inner
  %inner = urem i64 %n, %batches_inner
  %ao = mul i64 %outer, %a_outer
  %ai = mul i64 %inner, %a_inner
  %an = add i64 %ao, %ai
  %bo = mul i64 %outer, %b_outer
  %bi = mul i64 %inner, %b_inner
  %bn = add i64 %bo, %bi
  %co = mul i64 %outer, %c_outer
  %ci = mul i64 %inner, %c_inner
  %cn = add i64 %co, %ci
  %a.n = getelementptr i8, ptr %a, i64 %an
  %b.n = getelementptr i8, ptr %b, i64 %bn
  %c.n = getelementptr i8, ptr %c, i64 %cn
  br label %block
block: ; of columns
  %g = phi i64 [ %j0, %batch.body ], [ %g1, %block.end ]
  %g.more = icmp slt i64 %g, %j1
  br i1 %g.more, label %block.body, label %batch.end
block.body:
  %g1.all = add i64 %g, %columns_near
  %g1 = call i64 @llvm.smin.i64(i64 %g1.all, i64 %j1)
  br label %depth
depth: ; a block of k
  %d = phi i64 [ 0, %block.body ], [ %d1, %depth.end ]
  %d.more = icmp slt i64 %d, %k
  br i1 %d.more, label %depth.body, label %block.end
depth.body:
  %d1 = add i64 %d, %k_near
  %d.left = sub i64 %k, %d
  %kk = call i64 @llvm.smin.i64(i64 %d.left, i64 %k_near)
  %ad = mul i64 %d, %a_step
  %bd = mul i64 %d, %b_step
  %a.d = getelementptr i8, ptr %a.n, i64 %ad
  %b.d = getelementptr i8, ptr %b.n, i64 %bd
  %add = icmp sgt i64 %d, 0
  br label %row
row:
  %i = phi i64 [ %i0, %depth.body ], [ %i.next, %row.end ]
  %i.more = icmp slt i64 %i, %i1
  br i1 %i.more, label %row.body, label %depth.end
row.body:
  %i.last = icmp eq i64 %i, %rows.less
  %ai.off = mul i64 %i, %a_panel
  %a.i = getelementptr i8, ptr %a.d, i64 %ai.off
  %ci.off = mul i64 %i, %c_tile
  %c.i = getelementptr i8, ptr %c.n, i64 %ci.off
  %inner.tile = select i1 %i.last, ptr %tile_edge, ptr %tile
  %last.tile = select i1 %i.last, ptr %tile_corner, ptr %tile_last
  br label %column
column:
  %j = phi i64 [ %g, %row.body ], [ %j.next, %column.body ]
  %j.more = icmp slt i64 %j, %g1
  br i1 %j.more, label %column.body, label %row.end
column.body:
  %bj = mul i64 %j, %panel
  %b.j = getelementptr i8, ptr %b.d, i64 %bj
  %cj = mul i64 %j, %c_panel
  %c.j = getelementptr i8, ptr %c.i, i64 %cj
  %j.last = icmp eq i64 %j, %columns.less
  %function = select i1 %j.last, ptr %last.tile, ptr %inner.tile
  call void %function(ptr %a.i, i64 %a_row, i64 %a_step, ptr %b.j, i64 %b_step, ptr %c.j, i64 %c_row, i64 %kk, i64 %last, i1 %add)
  %j.next = add i64 %j, 1
  br label %column
row.end:
  %i.next = add i64 %i, 1
  br label %row
depth.end:
  br label %depth
block.end:
  br label %block
batch.end:
  %n.next = add i64 %n, 1
  br label %batch
end:
  ret void
}
"""

WALK_WORDS = (
    "a b c tile tile_edge tile_last tile_corner batches batches_each batches_inner "
    "rows rows_each row_blocks columns columns_each column_blocks columns_near k_near a_outer a_inner b_outer b_inner "
    "c_outer c_inner a_panel a_row a_step panel b_step c_panel c_tile c_row k last"
).split()
_POINTERS = frozenset({"a", "b", "c", "tile", "tile_edge", "tile_last", "tile_corner"})


def walk_text() -> tuple[str, str]:
    """Its name and its text."""
    lines = []
    for place, word in enumerate(WALK_WORDS):
        lines.append(f"  %{word}.at = getelementptr i64, ptr %words, i64 {place}")
        lines.append(f"  %{word} = load {'ptr' if word in _POINTERS else 'i64'}, ptr %{word}.at")
    lines += ["  %columns.less = sub i64 %columns, 1", "  %rows.less = sub i64 %rows, 1"]
    return named(_WALK.replace("WORDS", "\n".join(lines)), "walk")
