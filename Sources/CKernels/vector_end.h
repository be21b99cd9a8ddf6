#undef F
#undef I
#undef P
#undef LANES
#undef NAME
