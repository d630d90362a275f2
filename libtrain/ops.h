/// All differentiable operations. Each header is the manual of its operation.
#pragma once
#include "libtrain/ops/layer_norm.h"
