/// The whole library.
#pragma once
#include "libtrain/ops.h"
#include "libtrain/parameters.h"
#include "libtrain/tape.h"
#include "libtrain/tensor.h"
