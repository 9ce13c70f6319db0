# Honest knocks in a flood of forgeries: $flood has forgeries a second, the share granted (%), and the median (ms).
set terminal svg size 640,320 dynamic background "white" font "sans-serif,12"
set key off
set grid
set xlabel "forgeries a second, from one core"
set ylabel "honest knocks granted within a second, %" textcolor rgb "#0066cc"
set y2label "median until a connection, ms" textcolor rgb "#cc3300"
set xrange [0:*]
set yrange [0:100]
set y2range [0:*]
set ytics nomirror
set y2tics
plot $flood using 1:2 axes x1y1 with linespoints linewidth 2 pointtype 7 linecolor rgb "#0066cc", \
     $flood using 1:3 axes x1y2 with linespoints linewidth 2 pointtype 7 linecolor rgb "#cc3300"
