"""The walks over the tiles of a matrix product: which tile is computed when. Their texts are the same for all products, which differ in words.

A chunk has some batches, some rows of tiles and some columns of tiles. Columns go by in blocks, of which B stays in a cache; within a block k
goes by in pieces. For each piece a walk by rows takes a tile of A and meets all columns of the block; a walk by columns takes a panel of B and
meets all rows. The one may copy some tiles of A just before it needs them, the other the panels of the block.
"""

from __future__ import annotations

from .target import named

_BEGIN = """
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
  %own = mul i64 %worker, %buffer_each
  %buffer = getelementptr i8, ptr %buffers, i64 %own
  %copies = icmp ne ptr %copy, null
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
  br label %group
"""

_BY_ROWS = """
group: ; of rows, which are copied together
  %h = phi i64 [ %i0, %depth.body ], [ %h1, %group.end ]
  %h.more = icmp slt i64 %h, %i1
  br i1 %h.more, label %group.body, label %depth.end
group.body:
  %h1.all = add i64 %h, %rows_near
  %h1 = call i64 @llvm.smin.i64(i64 %h1.all, i64 %i1)
  br i1 %copies, label %copied, label %row.begin
copied:
  %ah.off = mul i64 %h, %a_panel
  %a.h = getelementptr i8, ptr %a.d, i64 %ah.off
  %h.last = icmp eq i64 %h1, %rows
  %left = select i1 %h.last, i64 %left_last, i64 %left_usual
  %count = sub i64 %h1, %h
  call void %copy(ptr %a.h, i64 %a_step, i64 0, ptr %buffer, i64 %kk, i64 %left, i64 %count, i64 %a_panel, i64 %copied_panel)
  br label %row.begin
row.begin:
  %a.rows = phi ptr [ %a.d, %group.body ], [ %buffer, %copied ]
  %a.first = phi i64 [ 0, %group.body ], [ %h, %copied ]
  %a.apart = phi i64 [ %a_panel, %group.body ], [ %copied_panel, %copied ]
  %row.tile = phi i64 [ %a_row, %group.body ], [ %copied_row, %copied ]
  %step.tile = phi i64 [ %a_step, %group.body ], [ %copied_step, %copied ]
  br label %row
row:
  %i = phi i64 [ %h, %row.begin ], [ %i.next, %row.end ]
  %i.more = icmp slt i64 %i, %h1
  br i1 %i.more, label %row.body, label %group.end
row.body:
  %i.last = icmp eq i64 %i, %rows.less
  %i.there = sub i64 %i, %a.first
  %ai.off = mul i64 %i.there, %a.apart
  %a.i = getelementptr i8, ptr %a.rows, i64 %ai.off
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
  call void %function(ptr %a.i, i64 %row.tile, i64 %step.tile, ptr %b.j, i64 %b_step, ptr %c.j, i64 %c_row, i64 %kk, i64 %last, i1 %add)
  %j.next = add i64 %j, 1
  br label %column
row.end:
  %i.next = add i64 %i, 1
  br label %row
group.end:
  br label %group
"""

_BY_COLUMNS = """
group:
  br i1 %copies, label %copied, label %column.begin
copied: ; the columns of the block
  %bg.off = mul i64 %g, %panel
  %b.g = getelementptr i8, ptr %b.d, i64 %bg.off
  %g.last = icmp eq i64 %g1, %columns
  %left = select i1 %g.last, i64 %left_last, i64 %left_usual
  %count = sub i64 %g1, %g
  call void %copy(ptr %b.g, i64 %b_step, i64 %b_column, ptr %buffer, i64 %kk, i64 %left, i64 %count, i64 %panel, i64 %copied_panel)
  br label %column.begin
column.begin:
  %b.columns = phi ptr [ %b.d, %group ], [ %buffer, %copied ]
  %b.first = phi i64 [ 0, %group ], [ %g, %copied ]
  %b.apart = phi i64 [ %panel, %group ], [ %copied_panel, %copied ]
  %step.tile = phi i64 [ %b_step, %group ], [ %copied_step, %copied ]
  br label %column
column:
  %j = phi i64 [ %g, %column.begin ], [ %j.next, %column.end ]
  %j.more = icmp slt i64 %j, %g1
  br i1 %j.more, label %column.body, label %depth.end
column.body:
  %j.last = icmp eq i64 %j, %columns.less
  %j.there = sub i64 %j, %b.first
  %bj = mul i64 %j.there, %b.apart
  %b.j = getelementptr i8, ptr %b.columns, i64 %bj
  %cj = mul i64 %j, %c_panel
  %c.j = getelementptr i8, ptr %c.n, i64 %cj
  %inner.tile = select i1 %j.last, ptr %tile_last, ptr %tile
  %last.tile = select i1 %j.last, ptr %tile_corner, ptr %tile_edge
  br label %row
row:
  %i = phi i64 [ %i0, %column.body ], [ %i.next, %row.body ]
  %i.more = icmp slt i64 %i, %i1
  br i1 %i.more, label %row.body, label %column.end
row.body:
  %i.last = icmp eq i64 %i, %rows.less
  %ai.off = mul i64 %i, %a_panel
  %a.i = getelementptr i8, ptr %a.d, i64 %ai.off
  %ci.off = mul i64 %i, %c_tile
  %c.i = getelementptr i8, ptr %c.j, i64 %ci.off
  %function = select i1 %i.last, ptr %last.tile, ptr %inner.tile
  call void %function(ptr %a.i, i64 %a_row, i64 %a_step, ptr %b.j, i64 %step.tile, ptr %c.i, i64 %c_row, i64 %kk, i64 %last, i1 %add)
  %i.next = add i64 %i, 1
  br label %row
column.end:
  %j.next = add i64 %j, 1
  br label %column
"""

_END = """
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

_COPY = """
define void @NAME(ptr noalias %words, i64 %chunk, i64 %worker) {
entry:
WORDS
  ; chunk -> (batch, block of panels, block of k)
  %kb = urem i64 %chunk, %k_blocks
  %rest = udiv i64 %chunk, %k_blocks
  %pb = urem i64 %rest, %panel_blocks
  %batch = udiv i64 %rest, %panel_blocks
  %outer = udiv i64 %batch, %batches_inner
  %inner = urem i64 %batch, %batches_inner
  %k0 = mul i64 %kb, %k_each
  %k1.all = add i64 %k0, %k_each
  %k1 = call i64 @llvm.smin.i64(i64 %k1.all, i64 %k)
  %kk = sub i64 %k1, %k0
  %p0 = mul i64 %pb, %panels_each
  %p1.all = add i64 %p0, %panels_each
  %p1 = call i64 @llvm.smin.i64(i64 %p1.all, i64 %panels)
  %count = sub i64 %p1, %p0
  %s0 = mul i64 %outer, %source_outer
  %s1 = mul i64 %inner, %source_inner
  %s2 = mul i64 %p0, %apart
  %s3 = mul i64 %k0, %k_stride
  %s01 = add i64 %s0, %s1
  %s23 = add i64 %s2, %s3
  %s = add i64 %s01, %s23
  %from = getelementptr i8, ptr %source, i64 %s
  %t0 = mul i64 %batch, %panels
  %t1 = add i64 %t0, %p0
  %t2 = mul i64 %t1, %size
  %t3 = mul i64 %k0, %step
  %t = add i64 %t2, %t3
  %to = getelementptr i8, ptr %target, i64 %t
  %end = icmp eq i64 %p1, %panels
  %left = select i1 %end, i64 %left_last, i64 %left_usual
  call void %copy(ptr %from, i64 %k_stride, i64 %n_stride, ptr %to, i64 %kk, i64 %left, i64 %count, i64 %apart, i64 %size)
  ret void
}
"""

WALK_WORDS = (
    "a b c tile tile_edge tile_last tile_corner copy buffers buffer_each copied_row copied_step copied_panel left_usual left_last batches "
    "batches_each batches_inner rows rows_each row_blocks rows_near columns columns_each column_blocks columns_near k_near a_outer a_inner "
    "b_outer b_inner c_outer c_inner a_panel a_row a_step panel b_step b_column c_panel c_tile c_row k last"
).split()
COPY_WORDS = (
    "source target copy batches_inner source_outer source_inner panels panels_each panel_blocks apart k k_each k_blocks k_stride n_stride "
    "step size left_usual left_last"
).split()
_POINTERS = frozenset({"a", "b", "c", "tile", "tile_edge", "tile_last", "tile_corner", "copy", "buffers", "source", "target"})


def _read(names: list[str]) -> str:
    """Instructions that read the words."""
    lines = []
    for place, word in enumerate(names):
        lines.append(f"  %{word}.at = getelementptr i64, ptr %words, i64 {place}")
        lines.append(f"  %{word} = load {'ptr' if word in _POINTERS else 'i64'}, ptr %{word}.at")
    return "\n".join(lines)


def walk_text(by_columns: bool) -> tuple[str, str]:
    """The name and the text of a walk."""
    words = _read(WALK_WORDS) + "\n  %columns.less = sub i64 %columns, 1\n  %rows.less = sub i64 %rows, 1"
    text = _BEGIN + (_BY_COLUMNS if by_columns else _BY_ROWS) + _END
    return named(text.replace("WORDS", words), "walk")


def copy_text() -> tuple[str, str]:
    """The name and the text of what copies a whole factor."""
    return named(_COPY.replace("WORDS", _read(COPY_WORDS)), "copies")
